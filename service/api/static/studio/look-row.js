// The row of one-tap looks: thumbnails of the visitor's own face, all of them from one call.

import * as api from "./api.js";
import { cropped, decoded, element } from "./dom.js";
import { around } from "./geometry.js";
import { convincing, isWorn, looksFor } from "./looks.js";
import { sayBusy } from "./telling.js";

const SIDE = 88; // pixels of the page
const LARGEST = 256;
const AROUND = 1.4; // times the face's box
const QUALITY = 82;

export class LookRow {
  #host;
  #onLook;
  #drawn = ""; // what the thumbnails were made of
  #looks = [];
  #controller = new AbortController();

  /** `onLook(look)` is called when one is tapped. */
  constructor(host, onLook) {
    this.#host = host;
    this.#onLook = onLook;
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

  async #draw(model, photo, index) {
    this.#controller.abort();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const looks = this.#looks;
    if (looks.length === 0) return;
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
    } catch (error) {
      // The names are enough to go on with; the next edit tells what is wrong.
      if (error.name !== "AbortError") this.#drawn = "";
    } finally {
      if (!signal.aborted) this.#host.removeAttribute("aria-busy");
    }
  }
}
