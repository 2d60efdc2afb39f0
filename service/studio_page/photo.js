// A picture that was opened: the file itself for the end, a small one for the way there.

import * as api from "./api.js";
import { Problem } from "./api.js";

const LONGEST = 896; // pixels of the preview; an edit of it takes some tens of milliseconds
const SMALL_FILE = 400_000; // bytes
const ACCEPTED = new Set(["image/jpeg", "image/png", "image/webp", "image/gif"]);
const TINY = 256; // pixels; up to here JPEG would be seen

/** An opened picture. `seed` tells how it was generated, if it was; `framed` that no face is to be searched for. */
export class Photo {
  constructor(file, preview, width, height, { seed = null, framed = null } = {}) {
    Object.assign(this, { file, preview, width, height, seed, framed, faces: [] });
    this.name = file.name || "photo";
    this.previewType = Math.max(width, height) <= TINY ? "image/png" : "image/jpeg";
  }

  /** Decode a file and find its faces. Throws Problem, with `framable` true where it may be a framed face. */
  static async open(file, model, { signal, onWait, ...origin } = {}) {
    const options = { signal, onWait };
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
    if (!bitmap) {
      // The service says best what is wrong with a file. If nothing is, the browser is what cannot show it.
      await api.encode(file, { model: model.name }, options);
      throw new Problem(0, "This browser cannot show that picture", "Try it as JPEG, PNG or WebP.");
    }
    const { width, height } = bitmap;
    const preview = await previewOf(file, bitmap);
    bitmap.close();
    const photo = new Photo(file, preview, width, height, origin);
    try {
      const found = await api.encode(preview, photo.fields(model), options);
      photo.faces = found.faces.map((face, index) => ({ ...face, index, share: shareOf(face.box, found.width, found.height) }));
    } catch (error) {
      if (error.status === 422) {
        error.title = "No face was found";
        error.framable = photo.#looksFramed(model);
      }
      throw error;
    }
    return photo;
  }

  /** The parameters that every call about this picture has. */
  fields(model) {
    return { model: model.default ? null : model.name, framed: this.framed };
  }

  #looksFramed(model) {
    const proportions = [1, model.aligned_size[0] / model.aligned_size[1]];
    return this.framed === null && proportions.some((ratio) => Math.abs(this.width / this.height / ratio - 1) < 0.02);
  }
}

/** A box in shares of the picture's width and height, so that it holds at any resolution. */
export function shareOf([left, top, right, bottom], width, height) {
  return [left / width, top / height, right / width, bottom / height];
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

/** A canvas as JPEG. */
export function toBlob(canvas, quality) {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Problem(0, "Too large", "This browser cannot scale it.")));
    canvas.toBlob(done, "image/jpeg", quality);
  });
}
