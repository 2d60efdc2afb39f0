// The page's state, tested by node without a browser. tests/service/api/studio/test_state.py runs this.

import assert from "node:assert/strict";
import test from "node:test";

const from = (name) => import(new URL(`../../../../service/api/static/studio/${name}`, import.meta.url));
const { Edits, fieldsOf, ofFragment, planOf, toFragment } = await from("state.js");
const { FaceEdit, grouped, levelOf } = await from("attributes.js");
const { convincing, isWorn, looksFor, toggleLook } = await from("looks.js");
const { Viewport, readingOrder } = await from("geometry.js");
const { crc32, zip } = await from("zip.js");

const attributes = [
  { name: "Smiling" },
  { name: "Eyeglasses", experimental: { removed: "rarely works" } },
  { name: "Black_Hair", group: "hair_colour" },
  { name: "Blond_Hair", group: "hair_colour" },
  { name: "Young", sensitive: true },
];
const estimates = { Smiling: 0.8, Eyeglasses: -0.9, Black_Hair: 0.5, Blond_Hair: -0.5, Young: 0.2 };
const edits = (count = 2) => new Edits(attributes, Array.from({ length: count }, () => ({ attributes: estimates })));

test("steps are undone and redone, and a new one ends what was undone", () => {
  const state = edits();
  state.face.set("Smiling", -1);
  assert.equal(state.commit(), true);
  assert.equal(state.commit(), false);
  state.resetAll();
  state.commit();
  assert.equal(state.undo(), true);
  assert.equal(state.face.value("Smiling"), -1);
  state.undo();
  assert.equal(state.face.isEmpty, true);
  assert.equal(state.undo(), false);
  state.redo();
  assert.equal(state.face.value("Smiling"), -1);
  state.face.set("Black_Hair", 1);
  state.commit();
  assert.equal(state.canRedo, false);
  state.goTo(0);
  assert.deepEqual([state.depth, state.steps, state.face.isEmpty], [0, 3, true]);
});

test("a plan has the chosen face first, and one call edits them all", () => {
  const state = edits(3);
  state.faces[2].set("Smiling", -1);
  state.chosen = 1;
  state.face.set("Black_Hair", 1);
  state.face.strength = 0.5;
  assert.deepEqual(fieldsOf(planOf(state, false, false), (face) => face + 1), {
    face: 2,
    attributes: { Black_Hair: 1 },
    strength: 0.5,
    others: [{ face: 3, attributes: { Smiling: -1 } }],
  });
  assert.deepEqual(fieldsOf([]), { attributes: {} });
});

test("all faces get what the chosen one has", () => {
  const state = edits();
  state.face.set("Blond_Hair", 1);
  state.applyToAll();
  assert.deepEqual(state.asked[1], state.asked[0]);
});

test("edits come back as far as another model has the attributes", () => {
  const face = new FaceEdit(attributes, estimates);
  face.load({ attributes: { Smiling: -1, Beard: 1, Young: 99 }, strength: 7 });
  assert.deepEqual(face.asked, { attributes: { Smiling: -1, Young: 1.5 }, strength: 2 });
});

test("a link carries the seed and the sliders", () => {
  const asked = { attributes: { Smiling: -0.55 }, strength: 1.5 };
  assert.deepEqual(ofFragment(toFragment({ model: "m", seed: 7, asked })), { seed: 7, model: "m", asked });
  assert.equal(ofFragment("#elsewhere"), null);
});

test("looks are offered where they change something, and are taken off again", () => {
  const face = new FaceEdit(attributes, { ...estimates, Eyeglasses: 0.9 });
  const names = (...switches) => looksFor(face, new Set(["Young"]), ...switches).map(({ name }) => name);
  assert.deepEqual(names(false, false), ["No smile", "Blond hair"]);
  assert.deepEqual(names(true, true), ["No smile", "Blond hair", "Younger", "Older", "No glasses"]);
  const [look] = looksFor(face, new Set(), false, false);
  toggleLook(face, look);
  assert.equal(isWorn(face, look), true);
  toggleLook(face, look);
  assert.equal(face.isEmpty, true);
});

const measured = {
  edits: {
    added: { attributes: { Blond_Hair: 0.9, Black_Hair: 0.9, Eyeglasses: 0.9 } },
    removed: { attributes: { Smiling: 1 } },
    balanced: { attributes: { Smiling: 0.9, Eyeglasses: 0.2 } },
  },
  realism: {
    added: { attributes: { Blond_Hair: { ratio: 0.2, noise: 0.1 }, Black_Hair: { ratio: null, noise: null }, Eyeglasses: { ratio: 0.2, noise: 0.3 } } },
    removed: { attributes: { Smiling: { ratio: 1.4, noise: 0.4 } } },
  },
};

test("the most convincing looks come first, as the evaluation has them, and experiments last", () => {
  const low = { Smiling: 0.8, Eyeglasses: -0.9, Black_Hair: -0.9, Blond_Hair: -0.9, Young: 0 };
  const face = new FaceEdit(attributes, low);
  const merit = convincing({ evaluation: { photographs: measured } });
  const names = (...more) => looksFor(face, new Set(["Young"]), false, true, ...more).map(({ name }) => name);
  assert.deepEqual(names(merit), ["Blond hair", "Glasses", "Black hair", "No smile"]);
  assert.ok(Math.abs(merit("Smiling", -1) - 0.25) < 1e-9);
  assert.equal(merit("Young", 1), 0);
  const unmeasured = convincing({ evaluation: {} });
  assert.deepEqual(names(unmeasured), names());
  const worn = new FaceEdit(attributes, { ...low, Eyeglasses: 0.9 });
  assert.equal(looksFor(worn, new Set(), false, true, merit).at(-1).name, "No glasses");
});

test("what a face hardly shows is not taken away, and of an unknown face everything may be asked", () => {
  const names = (shown) => looksFor(new FaceEdit(attributes, { ...estimates, Eyeglasses: shown }), new Set(["Young"]), false, true).map(({ name }) => name);
  assert.deepEqual(names(0.1), ["No smile", "Glasses", "Blond hair"]);
  const unknown = new FaceEdit(attributes, Object.fromEntries(attributes.map(({ name }) => [name, Number.NaN])));
  const offered = looksFor(unknown, new Set(["Young"]), false, false).map(({ name }) => name);
  assert.deepEqual(offered, ["Smile", "No smile", "Glasses", "Blond hair", "Black hair"]);
});

test("what seldom succeeds is what the evaluation on photographs says", () => {
  const titles = (evaluation) => grouped({ attributes, evaluation }).find(({ kind }) => kind === "rare")?.attributes.map(({ name }) => name);
  assert.deepEqual(titles({ photographs: measured, edit: { raw: { accuracy: { attributes: { Smiling: 0.1 } } } } }), ["Eyeglasses"]);
  assert.deepEqual(titles({ edit: { raw: { accuracy: { attributes: { Smiling: 0.1 } } } } }), ["Smiling"]);
});

test("values are told in words", () => {
  assert.deepEqual([0.4, 1, 1.5, -0.4, -1, -1.5].map(levelOf), ["a little", "clearly", "strongly", "hardly", "not", "not at all"]);
});

test("zooming keeps what is under the pointer, and the stage stays full", () => {
  const view = new Viewport(2, 400, 400);
  assert.deepEqual(view.place, { x: 0, y: 100, w: 400, h: 200 });
  view.show([0.5, 0.5, 0.6, 0.7]);
  const [left, top, right, bottom] = view.region;
  assert.ok(left <= 0.5 && right >= 0.6 && top <= 0.5 && bottom >= 0.7);
  const under = () => (100 - view.place.x) / view.place.w;
  const before = under();
  view.zoomAt(1.2, 100, 200);
  assert.ok(Math.abs(under() - before) < 1e-9);
  view.pan(1e6, 0);
  assert.equal(view.region[0], 0);
});

test("faces are numbered left to right, row by row", () => {
  assert.deepEqual(readingOrder([[0.6, 0.1, 0.7, 0.2], [0.1, 0.12, 0.2, 0.22], [0.3, 0.6, 0.4, 0.7]]), [1, 0, 2]);
});

test("an archive has its files, checked by their sums", async () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
  const bytes = new Uint8Array(await zip([{ name: "a.txt", bytes: new Uint8Array([65]) }, { name: "a.txt", bytes: new Uint8Array([66]) }]).arrayBuffer());
  const text = new TextDecoder("latin1").decode(bytes);
  assert.equal(text.split("PK\x01\x02").length, 3);
  assert.ok(text.includes("a-2.txt"));
});
