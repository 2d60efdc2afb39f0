// Elements by id, and new ones.

/** The element with that id; a typing mistake fails at once instead of as a null somewhere else. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** A new element with properties, `data-` and `aria-` attributes, and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Scroll a row sideways until one of its buttons is seen, and nothing else. */
export function reveal(row, button) {
  const [outer, inner] = [row.getBoundingClientRect(), button.getBoundingClientRect()];
  row.scrollLeft += Math.min(0, inner.left - outer.left) + Math.max(0, inner.right - outer.right);
}

/** Run once the calls have stopped for so many milliseconds. */
export function settled(milliseconds, run) {
  let timer = 0;
  const ask = () => {
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds);
  };
  ask.cancel = () => clearTimeout(timer);
  return ask;
}

/** Part of a picture or canvas as a canvas of `side` pixels; `box` is left, top, width, height in its own pixels. */
export function cropped(source, [left, top, width, height], side) {
  const canvas = element("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const square = Math.min(width, height);
  context.drawImage(source, left + (width - square) / 2, top + (height - square) / 2, square, square, 0, 0, side, side);
  return canvas;
}

/** An image element of a blob, decoded. The caller revokes its `src`. */
export async function decoded(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  return image;
}
