// Work of which only the newest counts, such as a picture that follows a slider.

const SETTLED = 120; // milliseconds without a newer wish

/** Runs one job at a time, `run(job, signal)`; of those asked for meanwhile, the newest comes next. */
export class Latest {
  #run;
  #next = null;
  #controller = null;
  #timer = 0;

  constructor(run) {
    this.#run = run;
  }

  /** Whether a job is under way or about to begin. */
  get isBusy() {
    return this.#controller !== null || this.#next !== null;
  }

  ask(job) {
    this.#next = { job };
    if (!this.#controller) {
      // A frame's time collects what one movement sets off; more would only lag behind the hand.
      this.#timer ||= setTimeout(() => this.#start(), 16);
      return;
    }
    // While the slider moves, an older picture still shows the way. Once it rests, only the newest is of use; aborting
    // at every movement would show nothing until then.
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller?.abort(), SETTLED);
  }

  cancel() {
    this.#next = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#controller?.abort();
  }

  async #start() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { job } = this.#next;
    this.#next = null;
    const controller = (this.#controller = new AbortController());
    try {
      await this.#run(job, controller.signal);
    } finally {
      this.#controller = null;
      if (this.#next) this.#start();
    }
  }
}
