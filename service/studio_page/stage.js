// The photo: before and after with a divider between them, and the faces outlined.

import { byId, element } from "./dom.js";

const SMALLEST = 560; // pixels of the page that a tiny picture is enlarged to

export class Stage {
  #stage = byId("stage");
  #before = byId("before");
  #after = byId("after");
  #faces = byId("faces");
  #divider = byId("divider");
  #onFace;
  #urls = new Map();

  /** `onFace(index)` is called when a face is chosen. */
  constructor(onFace) {
    this.#onFace = onFace;
    this.#divider.addEventListener("input", () => this.#divide());
    // The divider's handle is as high as the photo, and a thumb does not know percentages of it.
    new ResizeObserver(() => this.#stage.style.setProperty("--height", `${this.#stage.clientHeight}px`)).observe(this.#stage);
    this.#divide();
  }

  async open(photo) {
    this.#stage.style.setProperty("--ratio", String(photo.width / photo.height));
    this.#stage.style.setProperty("--widest", `${Math.max(photo.width, SMALLEST)}px`);
    this.#divider.value = "0";
    this.#divide();
    this.#faces.replaceChildren(...photo.faces.map((face) => this.#outline(face, photo.faces.length)));
    await this.#put(this.#before, photo.preview);
    await this.showEdited(photo.preview);
  }

  /** Show the edited picture; it is decoded first, so that nothing flickers. */
  showEdited(picture) {
    return this.#put(this.#after, picture);
  }

  choose(index) {
    for (const [place, outline] of [...this.#faces.children].entries()) {
      outline.setAttribute("aria-pressed", String(place === index));
    }
  }

  set busy(busy) {
    this.#stage.toggleAttribute("data-busy", busy);
  }

  #divide() {
    const share = Number(this.#divider.value);
    this.#stage.style.setProperty("--split", `${share}%`);
    this.#stage.toggleAttribute("data-divided", share > 0);
    this.#divider.setAttribute("aria-valuetext", `${share} % before`);
  }

  #outline(face, count) {
    const name = `Face ${face.index + 1} of ${count}`;
    const button = element("button", { type: "button", "aria-label": name, title: name, "aria-pressed": "false" });
    if (count > 1) button.append(element("span", {}, String(face.index + 1)));
    const [left, top, right, bottom] = face.share;
    const place = { left, top, width: right - left, height: bottom - top };
    for (const [side, share] of Object.entries(place)) button.style.setProperty(side, `${100 * share}%`);
    button.addEventListener("click", () => this.#onFace(face.index));
    return button;
  }

  async #put(image, picture) {
    const url = URL.createObjectURL(picture);
    const probe = new Image();
    probe.src = url;
    await probe.decode();
    URL.revokeObjectURL(this.#urls.get(image));
    this.#urls.set(image, url);
    image.src = url;
  }
}
