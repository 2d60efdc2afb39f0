// Several faces of one picture, edited one after the other; what has not changed is not drawn again.

import * as api from "./api.js";
import { shareOf } from "./photo.js";

/** Edits one file. A plan lists `{face, fields}`, where the face has its `index` and its `share` of the picture. */
export class Chain {
  #source;
  #common;
  #knowsFaces;
  #steps = [];

  /** `common` are parameters of every call; `knowsFaces` says that the faces' indices are this very file's. */
  constructor(source, common, knowsFaces) {
    this.#source = source;
    this.#common = common;
    this.#knowsFaces = knowsFaces;
  }

  /** The picture with the plan carried out; the file itself where it is empty. */
  async render(plan, options = {}) {
    let picture = this.#source;
    for (const [place, { face, fields }] of plan.entries()) {
      const key = JSON.stringify([face.index, fields]);
      if (this.#steps[place]?.key !== key) {
        const index = await this.#index(picture, face, place, options);
        const asked = { ...this.#common, ...fields, face: index };
        const drawn = await api.edit(picture, asked, options);
        this.#steps.splice(place, Infinity, { key, picture: drawn });
      }
      picture = this.#steps[place].picture;
    }
    return picture;
  }

  /** Which face of the file itself that is. */
  index(face, options = {}) {
    return this.#index(this.#source, face, 0, options);
  }

  // Faces are numbered by size, and two of nearly the same may change places in an edited or a larger picture.
  async #index(picture, face, place, options) {
    if (this.#common.framed || (place === 0 && this.#knowsFaces)) return face.index;
    const { model, framed } = this.#common;
    const found = await api.encode(picture, { model, framed }, { signal: options.signal, onWait: options.onWait });
    const shares = found.faces.map((other) => overlap(face.share, shareOf(other.box, found.width, found.height)));
    return shares.indexOf(Math.max(...shares));
  }
}

/** Intersection over union of two boxes. */
function overlap(a, b) {
  const wide = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const high = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  return (wide * high) / (area(a) + area(b) - wide * high);
}
