// The row of one-tap looks: thumbnails of the visitor's own face, all of them from one call.
// Where that fails, it is tried again by and by, and as soon as another call has worked.

import * as api from "./api.js";
import { cropped, decoded, element } from "./dom.js";
import { around } from "./geometry.js";
import { convincing, isWorn, looksFor } from "./looks.js";
import { say, sayBusy, sayReady } from "./telling.js";

const SIDE = 88; // pixels of the page
const LARGEST = 256;
const AROUND = 1.4; // times the face's box
const QUALITY = 82;
const PAUSES = [5, 10, 20, 40, 60]; // seconds until they are tried again; from then on the last one

/** Whether the same call may work later. */
const isPassing = ({ status }) => status === 0 || status === 429 || status >= 500;

export class LookRow {
  #host;
  #note;
  #onLook;
  #drawn = ""; // what the thumbnails were made of
  #looks = [];
  #controller = new AbortController();
  #again = null; // draws them once more, where that failed
  #failures = 0;
  #timer = 0;

  /** `note` is where it tells that they could not be drawn; `onLook(look)` is called when one is tapped. */
  constructor(host, note, onLook) {
    this.#host = host;
    this.#note = note;
    this.#onLook = onLook;
    document.addEventListener("facet-drawn", () => this.#again?.());
  }

  /** The thumbnails are of something else now. */
  forget() {
    this.#drawn = "";
  }

  /** Show the looks of the chosen face, and have them drawn unless they are. */
  show({ model, photo, edits, switches }) {
    const key = JSON.stringify([model.name, model.version, edits.chosen, switches]);
    if (key !== this.#drawn) {
      this.#drawn = key;
      const sensitive = new Set(model.attributes.filter((attribute) => attribute.sensitive).map(({ name }) => name));
      this.#looks = looksFor(edits.face, sensitive, switches.sensitive, switches.experiments, convincing(model));
      const held = [...this.#host.children].indexOf(document.activeElement);
      this.#host.replaceChildren(...this.#looks.map((look) => this.#button(look)));
      if (held >= 0) this.#host.children[Math.min(held, this.#looks.length - 1)]?.focus();
      this.#draw(model, photo, edits.chosen);
    }
    for (const [index, button] of [...this.#host.children].entries()) {
      button.setAttribute("aria-pressed", String(isWorn(edits.face, this.#looks[index])));
    }
  }

  #button(look) {
    const note = look.experimental ? element("small", {}, "experimental") : "";
    const button = element("button", { type: "button", className: "look" }, element("span", { className: "thumb" }), look.name, note);
    button.addEventListener("click", () => this.#onLook(look));
    return button;
  }

  /** Until they are drawn, and where that fails, each shows the face as it is. */
  async #fill(photo, [left, top, right, bottom], size, signal) {
    const image = await decoded(photo.preview.picture);
    const { naturalWidth: wide, naturalHeight: high } = image;
    const box = [left * wide, top * high, (right - left) * wide, (bottom - top) * high];
    if (!signal.aborted) for (const button of this.#host.children) button.firstChild.replaceChildren(cropped(image, box, size));
    URL.revokeObjectURL(image.src);
  }

  #draw(model, photo, index) {
    this.#controller.abort();
    this.#controller = new AbortController();
    this.#settle();
    this.#failures = 0;
    this.#host.removeAttribute("aria-busy");
    const { signal } = this.#controller;
    if (this.#looks.length > 0) this.#attempt(model, photo, index, signal);
  }

  /** Nothing is left to be tried again. */
  #settle() {
    clearTimeout(this.#timer);
    this.#again = null;
    this.#note.hidden = true;
  }

  #failed(error, retry) {
    this.#note.textContent = `The looks could not be drawn on this face. ${error.detail ?? "Something went wrong in this page."}`;
    if (isPassing(error)) {
      const seconds = PAUSES[Math.min(this.#failures, PAUSES.length - 1)];
      this.#failures += 1;
      this.#note.append(` Trying again in ${seconds} s.`);
      this.#timer = setTimeout(() => this.#again?.(), 1000 * seconds);
      this.#again = () => {
        this.#settle();
        retry();
      };
    }
    this.#note.hidden = false;
    say("The looks could not be drawn");
  }

  async #attempt(model, photo, index, signal) {
    const looks = this.#looks;
    const size = Math.min(LARGEST, Math.round(SIDE * devicePixelRatio));
    const region = around(photo.faces[index].share, AROUND, photo.width, photo.height);
    const fields = {
      ...photo.fields(model),
      ...(index ? { face: index } : {}),
      ...(looks.some((look) => look.experimental) ? { experimental: true } : {}),
      attributes: {},
      variants: looks.map((look) => look.attributes),
      region: region.map((share) => Math.round(1e4 * share) / 1e4),
      size,
      quality: QUALITY,
    };
    this.#host.setAttribute("aria-busy", "true");
    try {
      await this.#fill(photo, region, size, signal);
      const sheet = await decoded(await api.edit(photo.preview, fields, { accept: "image/jpeg", signal, onWait: sayBusy }));
      if (signal.aborted) return;
      // The service lays them out near square.
      const columns = Math.ceil(Math.sqrt(looks.length));
      const [wide, high] = [sheet.naturalWidth / columns, sheet.naturalHeight / Math.ceil(looks.length / columns)];
      for (const [place, button] of [...this.#host.children].entries()) {
        const box = [(place % columns) * wide, Math.floor(place / columns) * high, wide, high];
        button.firstChild.replaceChildren(cropped(sheet, box, size));
      }
      URL.revokeObjectURL(sheet.src);
      sayReady();
    } catch (error) {
      // The names are enough to go on with meanwhile.
      if (!signal.aborted) this.#failed(error, () => this.#attempt(model, photo, index, signal));
    } finally {
      if (!signal.aborted) this.#host.removeAttribute("aria-busy");
    }
  }
}
