// The steps that led here, as thumbnails to go back to.

import { cropped, element, reveal } from "./dom.js";

const SIDE = 44; // pixels of the page

export class HistoryRow {
  #host;
  #onStep;
  #steps = []; // {words, thumb}

  /** `onStep(depth)` is called when a step is chosen, 0 for the beginning. */
  constructor(host, onStep) {
    this.#host = host;
    this.#onStep = onStep;
  }

  clear() {
    this.#steps = [];
  }

  /** A new step at that depth; those that were undone are over. */
  add(depth, words, edits) {
    this.#steps.length = Math.min(this.#steps.length, depth);
    this.#steps[depth] = { words, thumb: null };
    this.show(edits);
  }

  /** What the photo looks like at that step: the part `share` of an image element. */
  picture(depth, image, [left, top, right, bottom]) {
    const step = this.#steps[depth];
    if (!step) return;
    const { naturalWidth: wide, naturalHeight: high } = image;
    const box = [left * wide, top * high, (right - left) * wide, (bottom - top) * high];
    step.thumb = cropped(image, box, Math.round(SIDE * devicePixelRatio));
    this.#host.children[depth]?.firstChild.replaceChildren(step.thumb);
  }

  show(edits) {
    this.#host.hidden = edits.steps < 2;
    const held = [...this.#host.children].indexOf(document.activeElement);
    this.#host.replaceChildren(...Array.from({ length: edits.steps }, (_, depth) => this.#button(depth, edits.depth)));
    if (held >= 0) this.#host.children[Math.min(held, edits.steps - 1)].focus();
    reveal(this.#host, this.#host.children[edits.depth]);
  }

  #button(depth, now) {
    const { words = `Step ${depth}`, thumb } = this.#steps[depth] ?? {};
    const picture = element("span", { className: "thumb" }, ...(thumb ? [thumb] : []));
    const button = element("button", { type: "button", title: words, "aria-label": `Step ${depth}: ${words}` }, picture);
    if (depth === now) button.setAttribute("aria-current", "step");
    button.addEventListener("click", () => this.#onStep(depth));
    return button;
  }
}
