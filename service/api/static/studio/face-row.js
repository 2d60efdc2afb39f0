// The faces of a photo with several, as a row of thumbnails, numbered as they stand in the photo.

import { cropped, element, reveal } from "./dom.js";
import { readingOrder } from "./geometry.js";

const SIDE = 44; // pixels of the page

export class FaceRow {
  order = [0]; // indices of the faces from left to right
  #host;
  #onFace;

  /** `onFace(index)` is called when a face is chosen. */
  constructor(host, onFace) {
    this.#host = host;
    this.#onFace = onFace;
  }

  /** Of an opened photo; `image` shows the whole of it. */
  build({ faces }, image) {
    this.order = readingOrder(faces.map((face) => face.share));
    this.#host.hidden = faces.length < 2;
    const { naturalWidth: wide, naturalHeight: high } = image;
    const buttons = this.order.map((index, place) => {
      const [left, top, right, bottom] = faces[index].share;
      const box = [left * wide, top * high, (right - left) * wide, (bottom - top) * high];
      const thumb = cropped(image, box, Math.round(SIDE * devicePixelRatio));
      const button = element("button", { type: "button" }, thumb, element("span", {}, String(place + 1)));
      button.addEventListener("click", () => this.#onFace(index));
      return button;
    });
    this.#host.replaceChildren(...buttons);
  }

  show(edits) {
    for (const [place, button] of [...this.#host.children].entries()) {
      const index = this.order[place];
      const edited = edits.isEdited(index);
      const chosen = index === edits.chosen;
      if (chosen && button.getAttribute("aria-pressed") !== "true") reveal(this.#host, button);
      button.setAttribute("aria-pressed", String(chosen));
      button.toggleAttribute("data-edited", edited);
      button.setAttribute("aria-label", `Face ${place + 1} of ${this.order.length}${edited ? ", edited" : ""}`);
    }
  }
}
