// Boxes in shares of a picture's width and height, [left, top, right, bottom], and where a stage shows them.

export const WHOLE = [0, 0, 1, 1];
const LARGEST = 12; // times the size at which the whole picture fits

/** A box in pixels as shares of the picture, so that it holds at any resolution. */
export const shareOf = ([left, top, right, bottom], width, height) => [left / width, top / height, right / width, bottom / height];

/** Intersection over union of two boxes. */
export function overlap(a, b) {
  const wide = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const high = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  return (wide * high) / (area(a) + area(b) - wide * high);
}

/** The part of a picture of `width` x `height` around a box, `times` as long as it, square if there is room. */
export function around(box, times, width, height) {
  const side = times * Math.max((box[2] - box[0]) * width, (box[3] - box[1]) * height);
  const [wide, high] = [Math.min(1, side / width), Math.min(1, side / height)];
  const place = (middle, length) => Math.min(Math.max(0, middle - length / 2), 1 - length);
  const left = place((box[0] + box[2]) / 2, wide);
  const top = place((box[1] + box[3]) / 2, high);
  return [left, top, left + wide, top + high];
}

/** The smallest box around several. */
export const union = (boxes) => [0, 1, 2, 3].map((side) => (side < 2 ? Math.min : Math.max)(...boxes.map((box) => box[side])));

/** Whether a box lies within another one. */
export const contains = (outer, inner) =>
  outer[0] <= inner[0] && outer[1] <= inner[1] && outer[2] >= inner[2] && outer[3] >= inner[3];

/** The boxes' indices from left to right; of those in rows, row by row. */
export function readingOrder(boxes) {
  const middle = (box, axis) => (box[axis] + box[axis + 2]) / 2;
  const height = Math.max(...boxes.map((box) => box[3] - box[1]));
  const sorted = [...boxes.keys()].sort((a, b) => middle(boxes[a], 1) - middle(boxes[b], 1));
  const rows = [];
  for (const index of sorted) {
    const row = rows.at(-1);
    if (row && middle(boxes[index], 1) - middle(boxes[row[0]], 1) < height) row.push(index);
    else rows.push([index]);
  }
  return rows.flatMap((row) => row.sort((a, b) => middle(boxes[a], 0) - middle(boxes[b], 0)));
}

/**
 * Where a picture of `ratio` (width by height) lies on a stage of `width` x `height`: `{x, y, w, h}` in the stage's
 * pixels. `zoom` 1 fits the whole picture; the stage is always as full as it can be.
 */
export class Viewport {
  zoom = 1;
  #middle = [0.5, 0.5]; // shares of the picture

  constructor(ratio, width, height) {
    Object.assign(this, { ratio, width, height });
  }

  /** The rectangle of the whole picture. */
  get place() {
    const w = Math.min(this.width, this.height * this.ratio) * this.zoom;
    const h = w / this.ratio;
    const at = (room, length, middle) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, room / 2 - middle * length)));
    return { x: at(this.width, w, this.#middle[0]), y: at(this.height, h, this.#middle[1]), w, h };
  }

  /** The part of the picture that is seen. */
  get region() {
    const { x, y, w, h } = this.place;
    const share = (value) => Math.min(1, Math.max(0, value));
    return [share(-x / w), share(-y / h), share((this.width - x) / w), share((this.height - y) / h)];
  }

  resize(width, height) {
    Object.assign(this, { width, height });
  }

  fit() {
    this.zoom = 1;
    this.#middle = [0.5, 0.5];
  }

  /** Show a part of the picture as large as it fits. */
  show([left, top, right, bottom]) {
    this.zoom = 1;
    const { w, h } = this.place;
    this.zoom = Math.min(LARGEST, Math.max(1, Math.min(this.width / ((right - left) * w), this.height / ((bottom - top) * h))));
    this.#middle = [(left + right) / 2, (top + bottom) / 2];
    this.#settle();
  }

  /** Zoom by a factor, while what lies under a point of the stage stays there. */
  zoomAt(factor, px = this.width / 2, py = this.height / 2) {
    const before = this.place;
    const under = [(px - before.x) / before.w, (py - before.y) / before.h];
    this.zoom = Math.min(LARGEST, Math.max(1, this.zoom * factor));
    const { w, h } = this.place;
    this.#middle = [under[0] + (this.width / 2 - px) / w, under[1] + (this.height / 2 - py) / h];
    this.#settle();
  }

  /** Move the picture by pixels of the stage. */
  pan(dx, dy) {
    const { w, h } = this.place;
    this.#middle = [this.#middle[0] - dx / w, this.#middle[1] - dy / h];
    this.#settle();
  }

  // The middle is where the stage's middle really is, or dragging back would first have to undo what did not move.
  #settle() {
    const { x, y, w, h } = this.place;
    this.#middle = [(this.width / 2 - x) / w, (this.height / 2 - y) / h];
  }
}
