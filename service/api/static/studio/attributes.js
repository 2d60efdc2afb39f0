// What a face shows, and what is asked of it: the rules of the service, without any element of the page.

export const LOWEST = -1.5;
export const HIGHEST = 1.5;
export const STEP = 0.05;
const RARELY = 1 / 3; // share of edits that succeed, by the bundle's own evaluation

// What people call them; the rest is the attribute's own name in words.
const NAMES = {
  Bangs: "Fringe",
  Bushy_Eyebrows: "Thick brows",
  Eyeglasses: "Glasses",
  Gray_Hair: "Grey hair",
  Heavy_Makeup: "Make-up",
  Mouth_Slightly_Open: "Mouth open",
  Mustache: "Moustache",
  Smiling: "Smile",
};
const TITLES = { hair_colour: "Hair colour" };

const within = (value) => Math.min(HIGHEST, Math.max(LOWEST, value));

/** `Wearing_Necktie` as people write it. */
export function inWords(name) {
  if (NAMES[name]) return NAMES[name];
  const words = (TITLES[name] ?? name).replaceAll("_", " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A value in words: how much of the attribute that is. */
export function levelOf(value) {
  const far = Math.abs(value);
  if (far < 0.15) return "undecided";
  if (value > 0) return far < 0.6 ? "a little" : far < 1.15 ? "clearly" : "strongly";
  return far < 0.6 ? "hardly" : far < 1.15 ? "not" : "not at all";
}

/** A strength in words. */
export function strengthOf(value) {
  if (value < 0.05) return "not at all";
  return value < 0.7 ? "a little" : value < 1.3 ? "clearly" : "strongly";
}

/** How often the model's edits of a photo succeed, by attribute; empty where the bundle does not say. */
function successes(model) {
  const { photographs, edit = {} } = model.evaluation ?? {};
  return photographs?.edits?.balanced?.attributes ?? (edit.residual ?? edit.raw)?.accuracy?.attributes ?? {};
}

/** The attributes as the page groups them: `{title, attributes, kind}`, best first within a group. */
export function grouped(model) {
  const success = successes(model);
  const described = model.attributes.map((attribute) => ({ ...attribute, rare: success[attribute.name] < RARELY }));
  const best = (a, b) => (success[b.name] ?? 0) - (success[a.name] ?? 0);
  const plain = described.filter((a) => !a.group && !a.sensitive);
  const exclusive = new Map();
  for (const attribute of described.filter((a) => a.group && !a.sensitive)) {
    exclusive.set(attribute.group, [...(exclusive.get(attribute.group) ?? []), attribute]);
  }
  return [
    { kind: "plain", title: "Face", attributes: plain.filter((a) => !a.rare).sort(best) },
    ...[...exclusive].map(([title, members]) => ({ kind: "exclusive", title, attributes: members })),
    { kind: "rare", title: "Rarely succeeds", attributes: plain.filter((a) => a.rare).sort(best) },
    { kind: "sensitive", title: "Sensitive", attributes: described.filter((a) => a.sensitive) },
  ].filter((group) => group.attributes.length > 0);
}

/** Whether the model lists any direction as one that photos are edited in only on request. */
export const hasExperiments = (model) => model.attributes.some((attribute) => directions(attribute).length > 0);

const directions = (attribute) => Object.keys(attribute.experimental ?? {}); // services of before do not tell

/** What is asked of one face. Values start at the face's own estimates. */
export class FaceEdit {
  strength = 1;
  #attributes;
  #estimates;
  #asked = new Map();

  /** `attributes` as the model lists them, `estimates` by name; NaN for a face that nobody has seen yet. */
  constructor(attributes, estimates) {
    this.#attributes = attributes;
    this.#estimates = estimates;
  }

  /** What is asked, as plain data that JSON can carry. */
  get asked() {
    return { attributes: Object.fromEntries(this.#asked), strength: this.strength };
  }

  /** Ask for what another edit asked, as far as the model has it. */
  load({ attributes = {}, strength = 1 }) {
    this.#asked.clear();
    for (const [name, value] of Object.entries(attributes)) {
      if (this.#attribute(name) && Number.isFinite(value)) this.set(name, within(value));
    }
    this.strength = Number.isFinite(strength) ? Math.min(2, Math.max(0, strength)) : 1;
  }

  get isEmpty() {
    return this.#asked.size === 0;
  }

  has(name) {
    return this.#attribute(name) !== undefined;
  }

  start(name) {
    return within(this.#estimates[name]);
  }

  value(name) {
    if (this.#asked.has(name)) return this.#asked.get(name);
    return this.clearedBy(name) ? -1 : this.start(name);
  }

  isAsked(name) {
    return this.#asked.has(name);
  }

  /** Where a value may lie: `[lowest, highest]`, without experiments only in the directions that the model is good at. */
  range(name, withExperiments) {
    const barred = withExperiments ? [] : directions(this.#attribute(name));
    // The nearest place of a slider, which still counts as not moved.
    const start = Math.round(this.start(name) / STEP) * STEP;
    return [barred.includes("removed") ? start : LOWEST, barred.includes("added") ? start : HIGHEST];
  }

  /** Whether a value is an experiment: on the far side of what the face shows, in a direction that is listed. */
  isExperiment(name, value) {
    return directions(this.#attribute(name)).includes(value > (this.start(name) || 0) ? "added" : "removed");
  }

  /** The attribute of the same exclusive group that is set, so that this one is cleared; or null. */
  clearedBy(name) {
    return this.#rivals(name).find((rival) => this.#asked.get(rival) > 0) ?? null;
  }

  /** Ask for a value. The rules of exclusive groups are those of the service: one that is set clears the others. */
  set(name, value) {
    if (value <= 0 && this.clearedBy(name)) return;
    if (Math.abs(value - this.start(name)) < STEP / 2 && !this.clearedBy(name)) this.#asked.delete(name);
    else this.#asked.set(name, value);
    if (value > 0) for (const rival of this.#rivals(name)) this.#asked.delete(rival);
  }

  reset(name) {
    this.#asked.delete(name);
  }

  resetAll() {
    this.#asked.clear();
    this.strength = 1;
  }

  /** What the service is to be asked for, by name; empty where nothing changes. */
  wishes(withSensitive, withExperiments) {
    const sensitive = new Set(this.#attributes.filter((a) => a.sensitive).map((a) => a.name));
    const rounded = [...this.#asked].map(([name, value]) => [name, Math.round(100 * value) / 100]);
    const offered = rounded.filter(([name, value]) => withExperiments || !this.isExperiment(name, value));
    return Object.fromEntries(offered.filter(([name]) => withSensitive || !sensitive.has(name)));
  }

  #attribute(name) {
    return this.#attributes.find((a) => a.name === name);
  }

  #rivals(name) {
    const { group } = this.#attribute(name);
    return group ? this.#attributes.filter((a) => a.group === group && a.name !== name).map((a) => a.name) : [];
  }
}
