// One-tap looks: what is offered for a face, without any element of the page.

/**
 * Every look: its name, the attributes that it asks for, and whether it takes something away, which is offered only where
 * a face shows that. Those that a model does not have are left out.
 */
const LOOKS = [
  ["Smile", { Smiling: 1 }],
  ["No smile", { Smiling: -1 }, true],
  ["Mouth closed", { Mouth_Slightly_Open: -1 }, true],
  ["Mouth open", { Mouth_Slightly_Open: 1 }],
  ["Glasses", { Eyeglasses: 1 }],
  ["No glasses", { Eyeglasses: -1 }, true],
  ["Blond hair", { Blond_Hair: 1 }],
  ["Black hair", { Black_Hair: 1 }],
  ["Brown hair", { Brown_Hair: 1 }],
  ["Grey hair", { Gray_Hair: 1 }],
  ["Fringe", { Bangs: 1 }],
  ["No fringe", { Bangs: -1 }, true],
  ["Bald", { Bald: 1 }],
  ["Beard", { No_Beard: -1 }],
  ["Clean shaven", { No_Beard: 1 }, true],
  ["Moustache", { Mustache: 1 }],
  ["Goatee", { Goatee: 1 }],
  ["Make-up", { Heavy_Makeup: 1 }],
  ["No make-up", { Heavy_Makeup: -1 }, true],
  ["Thick brows", { Bushy_Eyebrows: 1 }],
  ["Thin brows", { Bushy_Eyebrows: -1 }, true],
  ["Younger", { Young: 1 }],
  ["Older", { Young: -1 }],
];
const SHOWN = 0.3; // of -1 to 1: what a face shows so much of need not be added, and can be taken away

const UNMEASURED = 1; // realism ratio where untouched pictures are as near to the real ones as can be told
const WORST = 1.5;

/**
 * How convincing the model's edits of photographs are, by its own evaluation: a function of an attribute and a value.
 * It is the share of faces on which the edit is seen, less half of how far edited pictures are from real ones that have
 * the attribute (in units of how far untouched ones are, at worst within the noise). 0 where nothing was measured.
 */
export function convincing(model) {
  const { edits = {}, realism = {} } = model.evaluation?.photographs ?? {};
  return (name, value) => {
    const direction = value > 0 ? "added" : "removed";
    const seen = edits[direction]?.attributes?.[name];
    if (!Number.isFinite(seen)) return 0;
    const { ratio, noise } = realism[direction]?.attributes?.[name] ?? {};
    const distance = Number.isFinite(ratio) ? ratio + (noise ?? 0) : UNMEASURED;
    return seen - Math.min(distance, WORST) / 2;
  };
}

/**
 * The looks for a face, as `{name, attributes, experimental}`, the most convincing first: `merit` is a function of an
 * attribute and a value. `edit` is the face's FaceEdit.
 */
export function looksFor(edit, sensitiveNames, withSensitive, withExperiments, merit = () => 0) {
  const offered = [];
  for (const [name, attributes, takesAway = false] of LOOKS) {
    const wanted = Object.entries(attributes);
    if (!wanted.every(([attribute]) => edit.has(attribute))) continue;
    if (!withSensitive && wanted.some(([attribute]) => sensitiveNames.has(attribute))) continue;
    const is = ([attribute, value]) => edit.start(attribute) * value;
    // Of faces that nobody has seen yet, all are offered: comparisons with NaN are false.
    if (takesAway ? wanted.some((wish) => is(wish) > -SHOWN) : wanted.every((wish) => is(wish) > SHOWN)) continue;
    const experimental = wanted.some(([attribute, value]) => edit.isExperiment(attribute, value));
    if (experimental && !withExperiments) continue;
    offered.push({ name, attributes, experimental });
  }
  const least = ({ attributes }) => Math.min(...Object.entries(attributes).map(([name, value]) => merit(name, value)));
  return offered.sort((a, b) => a.experimental - b.experimental || least(b) - least(a));
}

/** Whether a face is asked to look so. */
export const isWorn = (edit, look) =>
  Object.entries(look.attributes).every(([name, value]) => edit.isAsked(name) && edit.value(name) * value >= 0.6);

/** Put a look on, or take it off if it is worn. */
export function toggleLook(edit, look) {
  const worn = isWorn(edit, look);
  for (const [name, value] of Object.entries(look.attributes)) {
    if (worn) edit.reset(name);
    else edit.set(name, value);
  }
}
