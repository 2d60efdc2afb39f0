// A picture that was opened: the file itself for the end, a small one for the way there.

import * as api from "./api.js";
import { Problem } from "./api.js";
import { overlap, shareOf } from "./geometry.js";
import { Upload } from "./upload.js";

const LONGEST = 896; // pixels of the preview; an edit of it takes some tens of milliseconds
const SMALL_FILE = 400_000; // bytes
const ACCEPTED = new Set(["image/jpeg", "image/png", "image/webp", "image/gif"]);
const TINY = 256; // pixels; up to here JPEG would be seen

/** An opened picture. `seed` tells how it was generated, if it was; `framed` that no face is to be searched for. */
export class Photo {
  #indices = null;

  constructor(file, preview, width, height, { seed = null, framed = null, example = null } = {}) {
    Object.assign(this, { file, width, height, seed, framed, example, faces: [] });
    this.name = file.name || "photo";
    this.preview = new Upload(preview);
    this.original = file === preview ? this.preview : new Upload(file);
    this.previewType = Math.max(width, height) <= TINY ? "image/png" : "image/jpeg";
  }

  /** Decode a file and find its faces. Throws Problem, with `framable` true where it may be a framed face. */
  static async open(file, model, { signal, onWait, onProgress, ...origin } = {}) {
    const options = { signal, onWait, onProgress };
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
    if (!bitmap) {
      // The service says best what is wrong with a file. If nothing is, the browser is what cannot show it.
      await api.encode({ picture: file, handle: async () => null }, { model: model.name }, options);
      throw new Problem(0, "This browser cannot show that picture", "Try it as JPEG, PNG or WebP.");
    }
    const { width, height } = bitmap;
    const preview = await previewOf(file, bitmap);
    bitmap.close();
    const photo = new Photo(file, preview, width, height, origin);
    const started = performance.now();
    const rate = () => (1000 * preview.size) / (performance.now() - started);
    const handle = await photo.preview.handle(options);
    photo.bytesPerSecond = rate();
    await photo.findFaces(model, options);
    if (!handle) photo.bytesPerSecond = rate(); // it was sent only now
    return photo;
  }

  /** Find its faces, for a model. Throws as `open`. */
  async findFaces(model, options = {}) {
    this.#indices = null;
    try {
      const found = await api.encode(this.preview, this.fields(model), options);
      this.faces = found.faces.map((face, index) => ({ ...face, index, share: shareOf(face.box, found.width, found.height) }));
    } catch (error) {
      if (error.status === 422) {
        error.title = "No face was found";
        error.framable = this.#looksFramed(model);
      }
      throw error;
    }
  }

  /** The parameters that every call about this picture has. */
  fields(model) {
    return { ...(model.default ? {} : { model: model.name }), ...(this.framed === null ? {} : { framed: this.framed }) };
  }

  /** Which face of the file itself each of the faces is, as a function of indices. */
  async inOriginal(model, options = {}) {
    if (this.framed || this.original === this.preview) return (index) => index;
    this.#indices ??= this.#matched(model, options).catch((error) => {
      this.#indices = null;
      throw error;
    });
    const indices = await this.#indices;
    return (index) => indices[index];
  }

  // Faces are numbered by size, and two of nearly the same may change places in a larger picture.
  async #matched(model, options) {
    const found = await api.encode(this.original, this.fields(model), options);
    const shares = found.faces.map((face) => shareOf(face.box, found.width, found.height));
    return this.faces.map((face) => {
      const overlaps = shares.map((share) => overlap(face.share, share));
      return overlaps.indexOf(Math.max(...overlaps));
    });
  }

  #looksFramed(model) {
    const proportions = [1, model.aligned_size[0] / model.aligned_size[1]];
    return this.framed === null && proportions.some((ratio) => Math.abs(this.width / this.height / ratio - 1) < 0.02);
  }
}

async function previewOf(file, bitmap) {
  const factor = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  // A small file as it is: its size may be what says that it is framed.
  if (factor === 1 && file.size <= SMALL_FILE && ACCEPTED.has(file.type)) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * factor));
  canvas.height = Math.max(1, Math.round(bitmap.height * factor));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // the service lays transparency over white, too
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return toBlob(canvas, 0.92);
}

/** A canvas as JPEG, or as another `type`. */
export function toBlob(canvas, quality, type = "image/jpeg") {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Problem(0, "Too large", "This browser cannot scale it.")));
    canvas.toBlob(done, type, quality);
  });
}
