// The photo: before and after with a divider between them, as near as one likes, and its faces outlined.

import { byId, decoded, element } from "./dom.js";
import { WHOLE, Viewport, around, union } from "./geometry.js";

const NEAR = 1.8; // times the face's box, on opening

export class Stage {
  viewport = new Viewport(1, 1, 1);
  #stage = byId("stage");
  #images = { before: byId("before"), after: byId("after"), sharp: byId("sharp") };
  #outlines = byId("outlines");
  #divider = byId("divider");
  #onView;
  #urls = new Map();
  #wanted = new Map(); // the picture that each image is to show, which may still have to be decoded
  #shown = new Map(); // and the one that it shows
  #photo = null;
  #used = false;
  #held = null; // where the divider stands while two fingers pinch

  /** `onView()` is called when another part of the photo is seen. */
  constructor(onView) {
    this.#onView = onView;
    this.#divider.addEventListener("input", () => (this.#held === null ? this.#divide() : this.divide(this.#held)));
    new ResizeObserver(() => this.#resize()).observe(this.#stage);
    this.#divide();
  }

  get element() {
    return this.#stage;
  }

  /** The picture of the edited photo as it is shown: an image element. */
  get edited() {
    return this.#images.after;
  }

  get share() {
    return Number(this.#divider.value);
  }

  async open(photo) {
    this.#photo = photo;
    if (!this.#used) {
      this.#used = true; // the handle in the middle tells that there is something to compare
      this.divide(50);
    }
    this.viewport = new Viewport(photo.width / photo.height, this.#stage.clientWidth, this.#stage.clientHeight);
    this.#outlines.replaceChildren(...(photo.faces.length > 1 ? photo.faces.map((face) => this.#outline(face)) : []));
    await Promise.all([this.#put("before", photo.file), this.showEdited(photo.preview.picture)]);
    this.#placed();
  }

  /** Show the edited picture; it is decoded first, so that nothing flickers. */
  showEdited(picture) {
    return this.#put("after", picture);
  }

  /** Lay a sharper picture of a part of the photo over it, which is what the pointer finds if it is the whole; null takes it away. */
  async showSharp(picture, region = WHOLE) {
    const { sharp } = this.#images;
    if (!picture) {
      this.#wanted.delete("sharp");
      sharp.hidden = true;
      return;
    }
    if (!(await this.#put("sharp", picture))) return; // it was taken away, or another one was laid there, meanwhile
    const [left, top, right, bottom] = region;
    for (const [name, value] of Object.entries({ left, top, width: right - left, height: bottom - top })) {
      sharp.style.setProperty(`--${name}`, String(value));
    }
    sharp.toggleAttribute("data-whole", region === WHOLE);
    sharp.hidden = false;
  }

  /** Look at one face, or at all of them. */
  look(index = null) {
    const { faces, width, height } = this.#photo;
    if (index !== null) this.viewport.show(around(faces[index].share, NEAR, width, height));
    else if (faces.length === 1) this.viewport.fit();
    else this.viewport.show(union(faces.map((face) => around(face.share, NEAR, width, height))));
    this.#placed();
  }

  /** Move the divider to the middle of a face that it would keep as it was. */
  reveal(index) {
    const { x, w } = this.viewport.place;
    const [left, , right] = this.#photo.faces[index].share;
    const middle = (100 * (x + (w * (left + right)) / 2)) / this.#stage.clientWidth;
    if (middle < this.share) this.divide(Math.max(0, Math.round(middle)));
  }

  /** Change what is seen by `change(viewport)`. */
  view(change) {
    change(this.viewport);
    this.#placed();
  }

  choose(index, isEdited) {
    for (const [place, outline] of [...this.#outlines.children].entries()) {
      outline.toggleAttribute("data-chosen", place === index);
      outline.toggleAttribute("data-edited", isEdited(place));
    }
  }

  /** The face at a point of the stage, or null. */
  faceAt(x, y) {
    const place = this.viewport.place;
    const [across, down] = [(x - place.x) / place.w, (y - place.y) / place.h];
    const hit = this.#photo?.faces.find(({ share }) => across >= share[0] && down >= share[1] && across <= share[2] && down <= share[3]);
    return hit?.index ?? null;
  }

  /** Show the photo as it was, while something is held. */
  set comparing(comparing) {
    this.#stage.toggleAttribute("data-comparing", comparing);
  }

  set busy(busy) {
    this.#stage.toggleAttribute("data-busy", busy);
    this.#stage.setAttribute("aria-busy", String(busy));
  }

  /** While two fingers change the view, the divider stays where it is, even if one of them is on it. */
  set pinching(pinching) {
    this.#held = pinching ? this.share : null;
  }

  /** Outlines fade while somebody edits. */
  set editing(editing) {
    this.#stage.toggleAttribute("data-editing", editing);
  }

  /** Put the divider at so many percent. */
  divide(share) {
    this.#divider.value = String(share);
    this.#divide();
  }

  #divide() {
    const { share } = this;
    this.#stage.style.setProperty("--split", `${share}%`);
    this.#stage.toggleAttribute("data-divided", share > 0);
    this.#divider.setAttribute("aria-valuetext", `${share} % before`);
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#stage;
    if (!clientWidth || !clientHeight) return;
    // The divider's handle is as high as the stage, and a thumb does not know percentages of it.
    this.#stage.style.setProperty("--height", `${clientHeight}px`);
    this.viewport.resize(clientWidth, clientHeight);
    this.#placed();
  }

  #placed() {
    const { x, y, w, h } = this.viewport.place;
    for (const [name, value] of Object.entries({ x, y, w, h })) this.#stage.style.setProperty(`--${name}`, `${value}px`);
    const zoomed = this.viewport.zoom > 1.001;
    this.#stage.toggleAttribute("data-zoomed", zoomed);
    for (const image of Object.values(this.#images)) image.draggable = !zoomed; // out of the page; else a drag moves the photo
    if (this.#photo) this.#onView();
  }

  #outline(face) {
    const outline = element("div", {}, element("span", {}, ""));
    const [left, top, right, bottom] = face.share;
    const place = { left, top, width: right - left, height: bottom - top };
    for (const [side, share] of Object.entries(place)) outline.style.setProperty(side, `${100 * share}%`);
    return outline;
  }

  /** Number the outlines as the faces below are numbered. */
  number(order) {
    for (const [place, index] of order.entries()) {
      const outline = this.#outlines.children[index];
      if (outline) outline.firstChild.textContent = String(place + 1);
    }
  }

  /** Show a picture once it is decoded; false where something else is to be shown by then. */
  async #put(name, picture) {
    this.#wanted.set(name, picture);
    if (this.#shown.get(name) === picture) return true;
    const probe = await decoded(picture);
    if (this.#wanted.get(name) !== picture) {
      URL.revokeObjectURL(probe.src);
      return false;
    }
    URL.revokeObjectURL(this.#urls.get(name));
    this.#urls.set(name, probe.src);
    this.#shown.set(name, picture);
    this.#images[name].src = probe.src;
    return true;
  }
}
