// What is asked of each face of the open photo, and how it came to that: undo, redo, and what outlives a reload.
// Nothing here touches the page, so that node can test it.

import { FaceEdit } from "./attributes.js";

const LONGEST_PAST = 50; // steps

/** The edits of all faces. `chosen` is the index of the face that the controls show. */
export class Edits {
  chosen = 0;
  faces = [];
  #past = [];
  #future = [];
  #now = "";

  /** `attributes` as the model lists them, `faces` with their estimates in `attributes`. */
  constructor(attributes, faces) {
    this.faces = faces.map((face) => new FaceEdit(attributes, face.attributes));
    this.#now = this.#written();
  }

  get face() {
    return this.faces[this.chosen];
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** How many steps led here; it numbers the entries of the history. */
  get depth() {
    return this.#past.length;
  }

  /** How many steps there are, those that were undone included. */
  get steps() {
    return this.#past.length + this.#future.length + 1;
  }

  /** Whether anything is asked of that face. */
  isEdited(index) {
    return !this.faces[index].isEmpty;
  }

  /** Make what is asked now a step of the history; false where nothing is new. */
  commit() {
    const written = this.#written();
    if (written === this.#now) return false;
    this.#past.push(this.#now);
    if (this.#past.length > LONGEST_PAST) this.#past.shift();
    this.#future = [];
    this.#now = written;
    return true;
  }

  undo() {
    return this.#step(this.#past, this.#future);
  }

  redo() {
    return this.#step(this.#future, this.#past);
  }

  /** Go to a step of the history, 0 for the beginning. */
  goTo(depth) {
    this.commit();
    while (this.depth > depth && this.undo());
    while (this.depth < depth && this.redo());
  }

  /** Ask of all faces what is asked of the chosen one. */
  applyToAll() {
    const { asked } = this.face;
    for (const face of this.faces) face.load(asked);
  }

  resetAll() {
    for (const face of this.faces) face.resetAll();
  }

  /** What is asked of every face, as plain data. */
  get asked() {
    return this.faces.map((face) => face.asked);
  }

  /** Ask for what was asked before, as far as these faces and their model have it; a new step unless `quietly`. */
  load(asked, quietly = false) {
    for (const [index, each] of asked.entries()) this.faces[index]?.load(each);
    if (quietly) this.#now = this.#written();
    else this.commit();
  }

  #step(from, to) {
    this.commit();
    if (from.length === 0) return false;
    to.push(this.#now);
    this.#now = from.pop();
    for (const [index, each] of JSON.parse(this.#now).entries()) this.faces[index].load(each);
    return true;
  }

  #written() {
    return JSON.stringify(this.asked);
  }
}

/** What to ask of the service: one entry for each face that is to change, the chosen one first. */
export function planOf(edits, withSensitive, withExperiments) {
  const order = [...edits.faces.keys()].sort((a, b) => (b === edits.chosen) - (a === edits.chosen));
  return order.flatMap((index) => {
    const face = edits.faces[index];
    const attributes = face.wishes(withSensitive, withExperiments);
    if (Object.keys(attributes).length === 0) return [];
    const experimental = Object.entries(attributes).some(([name, value]) => face.isExperiment(name, value));
    return [{ face: index, attributes, strength: face.strength, experimental }];
  });
}

/** The parameters of one call for a plan. `indexOf` says which face of the picture that is sent a face is. */
export function fieldsOf(plan, indexOf = (face) => face) {
  const one = ({ face, attributes, strength }) => ({
    ...(indexOf(face) ? { face: indexOf(face) } : {}),
    attributes,
    ...(strength === 1 ? {} : { strength }),
  });
  const [first = { face: 0, attributes: {}, strength: 1 }, ...rest] = plan;
  const others = rest.map((step) => ({ face: 0, ...one(step) }));
  return {
    ...one(first),
    ...(others.length ? { others } : {}),
    ...(plan.some((step) => step.experimental) ? { experimental: true } : {}),
  };
}

/** A generated face and its edits as the fragment of a link. */
export function toFragment({ model, seed, asked }) {
  const words = new URLSearchParams({ seed: String(seed), ...(model ? { model } : {}) });
  if (asked.strength !== 1) words.set("strength", String(asked.strength));
  for (const [name, value] of Object.entries(asked.attributes)) words.set(name, String(Math.round(100 * value) / 100));
  return `#${words}`;
}

/** What such a fragment says, or null for another one. */
export function ofFragment(fragment) {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  const seed = words.get("seed") ?? "";
  if (!/^\d{1,15}$/.test(seed)) return null;
  const asked = { attributes: {}, strength: words.has("strength") ? Number(words.get("strength")) : 1 };
  for (const [name, value] of words) {
    if (["seed", "model", "strength"].includes(name) || !Number.isFinite(Number(value))) continue;
    asked.attributes[name] = Number(value);
  }
  return { seed: Number(seed), model: words.get("model"), asked };
}
