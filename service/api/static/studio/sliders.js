// The panel of sliders: one for each attribute, in groups.

import { HIGHEST, LOWEST, STEP, grouped, hasExperiments, inWords, levelOf } from "./attributes.js";
import { byId, element } from "./dom.js";

const NOTES = {
  exclusive: "One at a time: setting one clears the others.",
  rare: "What this model seldom manages, by its own evaluation.",
  experimental: "Edits that this model is not good at, by its own evaluation: expect faults, or no change at all.",
  sensitive: "What annotators perceived in other people's pictures, which is not who somebody is.",
};

/** A number with its sign, a real minus, and two decimals. */
function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return Number(text) === 0 ? "0.00" : `${value < 0 ? "−" : "+"}${text}`;
}

/** One labelled slider with its value and a button that takes it back. */
export class Slider {
  /** `onInput` gets the new value, `onChange` nothing, once it is let go; `onReset` nothing. */
  constructor(host, { id, label, hint, lowest, highest, step, onInput, onChange, onReset }) {
    this.host = host;
    this.range = [lowest, highest];
    this.input = element("input", { type: "range", id, min: lowest, max: highest, step });
    this.words = element("span", { className: "words" });
    this.number = element("span", { className: "number" });
    const output = element("output", { "aria-hidden": "true" }, this.words, this.number);
    this.back = element("button", { type: "button", className: "quiet back", title: `Reset ${label.toLowerCase()}` }, "↺");
    this.back.setAttribute("aria-label", this.back.title);
    const description = element("span", { className: "unseen", id: `${id}-hint` }, hint);
    const name = element("label", { htmlFor: id, title: hint }, label);
    host.append(name, this.back, output, this.input, description);
    this.input.setAttribute("aria-describedby", description.id);
    this.input.addEventListener("input", () => onInput(Number(this.input.value)));
    this.input.addEventListener("change", () => onChange());
    this.back.addEventListener("click", () => {
      onReset();
      this.input.focus(); // the button goes away, and the focus must not go with it
    });
  }

  /** Let it move between these only, and hide it where that leaves no room. */
  limit(lowest, highest) {
    this.range = [lowest, highest];
    Object.assign(this.input, { min: lowest, max: highest });
    this.host.hidden = highest - lowest < STEP;
  }

  show({ value, start, changed, words, number }) {
    const [lowest, highest] = this.range;
    const share = (each) => String((each - lowest) / (highest - lowest));
    // A slider in somebody's hand already stands where they put it.
    if (Number(this.input.value) !== value) this.input.value = String(value);
    this.input.style.setProperty("--value", share(value));
    this.input.style.setProperty("--start", share(start));
    this.input.setAttribute("aria-valuetext", words);
    this.words.textContent = words;
    this.number.textContent = number;
    this.host.toggleAttribute("data-changed", changed);
    this.back.hidden = !changed;
  }
}

/** The sliders of a model. `onInput(name, value)`, `onChange()`, `onReset(name)` and `onSwitch()` say what was done. */
export class Sliders {
  #form = byId("sliders");
  #sliders = new Map();
  #handlers;
  #switches;

  /** `switches` has `sensitive` and `experiments`, which the panel's own switches set. */
  constructor(handlers, switches) {
    this.#handlers = handlers;
    this.#switches = switches;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
  }

  build(model) {
    this.#sliders.clear();
    this.#switches.sensitive = this.#switches.experiments = false;
    this.#form.replaceChildren(...grouped(model).map((group) => this.#group(group)));
    if (hasExperiments(model)) this.#form.append(this.#experimentsSwitch());
  }

  /** The first one that is offered: what the page is about before any was moved. */
  get first() {
    const all = [...this.#sliders];
    return (all.find(([, slider]) => !slider.host.hidden) ?? all[0])[0];
  }

  isHidden(name) {
    return this.#sliders.get(name)?.host.hidden ?? true;
  }

  show(edit) {
    const { experiments } = this.#switches;
    for (const [name, slider] of this.#sliders) {
      const [lowest, highest] = edit.range(name, experiments);
      slider.limit(lowest, highest);
      const start = edit.start(name);
      const clearedBy = edit.clearedBy(name);
      // What is no longer offered is not asked for either.
      const offered = experiments || !edit.isExperiment(name, edit.value(name));
      const changed = edit.isAsked(name) && offered;
      const value = changed || clearedBy ? edit.value(name) : start;
      const words = changed ? levelOf(value) : clearedBy ? "cleared" : "as in the photo";
      slider.show({ value, start, changed, words, number: signed(value) });
      slider.host.toggleAttribute("data-cleared", Boolean(clearedBy));
    }
    for (const group of this.#form.querySelectorAll("[data-group]")) {
      group.hidden = [...group.querySelectorAll(".slider")].every((row) => row.hidden);
    }
  }

  #group({ kind, title, attributes }) {
    const rows = element("div", { className: "rows" });
    for (const attribute of attributes) {
      const row = element("div", { className: "slider" });
      const slider = new Slider(row, {
        id: `attribute-${attribute.name}`,
        label: inWords(attribute.name),
        hint: attribute.rare ? `${attribute.description} (rarely succeeds)` : attribute.description,
        lowest: LOWEST,
        highest: HIGHEST,
        step: STEP,
        onInput: (value) => this.#handlers.onInput(attribute.name, value),
        onChange: () => this.#handlers.onChange(),
        onReset: () => this.#handlers.onReset(attribute.name),
      });
      if (attribute.rare && kind !== "rare") row.setAttribute("data-rare", "");
      this.#sliders.set(attribute.name, slider);
      rows.append(row);
    }
    const note = NOTES[kind] ? element("p", { className: "small" }, NOTES[kind]) : "";
    if (kind === "rare") {
      return grouping(element("details", {}, element("summary", {}, title), note, rows));
    }
    if (kind === "sensitive") return this.#behindSwitch(title, note, rows);
    return grouping(element("fieldset", {}, element("legend", {}, inWords(title)), note, rows));
  }

  #experimentsSwitch() {
    const toggle = element("input", { type: "checkbox", role: "switch", id: "experimental" });
    toggle.addEventListener("change", () => {
      this.#switches.experiments = toggle.checked;
      this.#handlers.onSwitch();
    });
    const label = element("label", { className: "switch", htmlFor: "experimental" }, toggle, "Show experimental edits");
    const note = element("p", { className: "small" }, NOTES.experimental);
    return element("fieldset", {}, element("legend", { className: "unseen" }, "Experimental"), label, note);
  }

  #behindSwitch(title, note, rows) {
    const toggle = element("input", { type: "checkbox", role: "switch", id: "sensitive" });
    const inside = element("div", { hidden: true }, note, rows);
    toggle.addEventListener("change", () => {
      this.#switches.sensitive = toggle.checked;
      inside.hidden = !toggle.checked;
      this.#handlers.onSwitch();
    });
    const label = element("label", { className: "switch", htmlFor: "sensitive" }, toggle, "Sensitive attributes");
    return element("fieldset", {}, element("legend", { className: "unseen" }, title), label, inside);
  }
}

/** Marks a group that goes away with the last of its sliders. */
function grouping(host) {
  host.setAttribute("data-group", "");
  return host;
}
