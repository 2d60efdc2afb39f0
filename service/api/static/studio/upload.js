// A picture on its way to the service: it is sent once, kept there for a while, and named by a handle from then on.

import { keep } from "./api.js";

const REFUSALS = new Set([404, 405, 413]); // the service keeps no pictures, or none of that size
const MOST_LOST = 2; // handles in a row; then each call may reach another server, and the picture goes with it
let kept = true;

export class Upload {
  #handle = null; // a promise of it
  #arrived = null;
  #lost = 0;

  constructor(picture) {
    this.picture = picture;
  }

  /** Whether the service has the picture already. */
  get isThere() {
    return this.#arrived !== null;
  }

  /** The handle, null where the picture itself has to be sent. It is sent at the first call. */
  async handle({ signal, onWait, onProgress } = {}) {
    if (!kept || this.#lost >= MOST_LOST) return null;
    // An edit that is given up must not take along the upload that the next one waits for.
    this.#handle ??= this.#send({ onWait, onProgress });
    const handle = await this.#handle;
    if (signal?.aborted) throw new DOMException("aborted", "AbortError");
    return handle;
  }

  /** The service does not have it any more. */
  lost(handle) {
    if (this.#arrived !== handle) return;
    this.#handle = this.#arrived = null;
    this.#lost += 1;
    setTimeout(() => (this.#lost = 0), 10_000);
  }

  async #send(options) {
    try {
      const { photo } = await keep(this.picture, options);
      this.#arrived = photo;
      return photo;
    } catch (error) {
      this.#handle = null;
      if (!REFUSALS.has(error.status)) throw error;
      kept = error.status === 413;
      this.#lost = kept ? MOST_LOST : 0;
      return null;
    }
  }
}
