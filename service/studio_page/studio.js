// The studio: what the user does, and what then happens.

import * as api from "./api.js";
import { Problem } from "./api.js";
import { FaceEdit } from "./attributes.js";
import { takePhoto } from "./camera.js";
import { Chain } from "./chain.js";
import { curl, editedName, python } from "./code.js";
import { byId, element, inWords } from "./dom.js";
import { Latest } from "./latest.js";
import { Photo } from "./photo.js";
import { hideProblem, showProblem } from "./problem.js";
import { Slider, Sliders } from "./sliders.js";
import { Stage } from "./stage.js";

const PREVIEW_QUALITY = 90;
const QUALITY = 95;
const LARGEST_SEED = 999_999; // short enough to be told to somebody
const STRIP_STEPS = 7;
const OFFERED = 6; // faces on the empty page

/** What is open: the model, the photo, and for each of its faces what is asked of it. */
const open = { model: null, photo: null, edits: [], face: 0, preview: null, original: null, moved: null, code: null };
let opening = new AbortController();

const stage = new Stage(chooseFace);
const sliders = new Sliders({ onInput: move, onReset: reset, onSwitch: changed });
const strength = new Slider(byId("strength"), {
  id: "strength-value",
  label: "Strength",
  hint: "How far the photo goes towards what the sliders say; 0 not at all, 1 all the way, 2 beyond",
  lowest: 0,
  highest: 2,
  step: 0.05,
  onInput: setStrength,
  onReset: () => setStrength(1),
});
const follow = new Latest(draw);

// ---- opening

async function start() {
  try {
    const { models } = await api.models();
    const chooser = byId("model");
    chooser.replaceChildren(...models.map(({ name }) => new Option(name, name)));
    byId("models").hidden = models.length < 2;
    const preferred = models.find((model) => model.default) ?? models[0];
    chooser.value = preferred.name;
    await useModel(preferred.name);
    if (!open.photo) await offerFaces();
  } catch (error) {
    report(error, { label: "Try again", run: start });
  }
}

async function useModel(name) {
  open.model = await api.model(name);
  sliders.build(open.model);
  byId("about").textContent = `${open.model.name} ${open.model.version}. Its licence: ${open.model.weights_licence}.`;
  open.moved = sliders.first;
  if (open.photo) await openFile(open.photo.file, { seed: open.photo.seed, framed: open.photo.framed });
}

/** Open a file. Whatever was open stays until the new one is known to be good. */
async function openFile(file, origin = {}) {
  if (!file) return;
  opening.abort();
  opening = new AbortController();
  const { signal } = opening;
  say("Looking for faces…");
  document.body.toggleAttribute("data-opening", true);
  try {
    if (!open.model) await start();
    const photo = await Photo.open(file, open.model, { signal, onWait: sayBusy, ...origin });
    if (signal.aborted) return;
    hideProblem();
    await show(photo);
  } catch (error) {
    if (signal.aborted) return;
    say("");
    const asFramed = { label: "Use it as a framed face", run: () => openFile(file, { ...origin, framed: true }) };
    report(error, error.framable ? asFramed : null);
  } finally {
    if (!signal.aborted) document.body.toggleAttribute("data-opening", false);
  }
}

async function show(photo) {
  follow.cancel();
  const { model } = open;
  const single = photo.faces.length === 1;
  open.photo = photo;
  open.edits = photo.faces.map((face) => new FaceEdit(model.attributes, face.attributes));
  open.preview = new Chain(photo.preview, photo.fields(model), true);
  open.original = new Chain(photo.file, photo.fields(model), single || photo.file === photo.preview);
  for (const id of ["strip", "code"]) byId(id).hidden = true;
  open.code = null;
  byId("welcome").hidden = true;
  byId("workplace").hidden = byId("sources").hidden = false;
  byId("timing").textContent = "";
  await stage.open(photo);
  chooseFace(0);
  const named = photo.seed === null ? "" : ` · seed ${photo.seed}`;
  say(single ? `One face${named}` : `${photo.faces.length} faces: choose one in the photo`);
}

const anySeed = () => Math.floor(Math.random() * (LARGEST_SEED + 1));

/** Some faces to begin with, on the empty page. */
async function offerFaces() {
  const offers = await Promise.all(
    Array.from({ length: OFFERED }, async () => {
      const seed = anySeed();
      const picture = await api.generate(generated(seed));
      const image = element("img", { src: URL.createObjectURL(picture), alt: "" });
      const button = element("button", { type: "button", "aria-label": `Begin with the generated face ${seed}` }, image);
      button.addEventListener("click", () => openRandom(seed));
      return button;
    }),
  ).catch(() => []); // what is wrong will be told to whoever asks for something
  byId("offers").replaceChildren(...offers);
}

async function openRandom(seed) {
  try {
    if (!open.model) await start();
    const picture = await api.generate(generated(seed), { onWait: sayBusy });
    await openFile(new File([picture], `face-${seed}.png`, { type: "image/png" }), { seed });
  } catch (error) {
    report(error);
  }
}

const generated = (seed) => ({ ...(open.model.default ? {} : { model: open.model.name }), seed });

async function openCamera() {
  try {
    await openFile(await takePhoto());
  } catch {
    // Without a camera for pages there may still be the phone's own camera program.
    byId("capture").click();
  }
}

// ---- editing

const edit = () => open.edits[open.face];

function chooseFace(index) {
  open.face = index;
  stage.choose(index);
  refresh();
}

function move(name, value) {
  open.moved = name;
  edit().set(name, value);
  changed();
}

function reset(name) {
  edit().reset(name);
  changed();
}

function setStrength(value) {
  edit().strength = value;
  changed();
}

function resetAll() {
  for (const each of open.edits) each.resetAll();
  changed();
}

function changed() {
  if (!open.photo) return;
  refresh();
  follow.ask(plan());
}

/** Bring every control up to date with what is asked of the chosen face. */
function refresh() {
  const now = edit();
  sliders.show(now);
  // What was moved may have been hidden since.
  if (!now.isAsked(open.moved) && sliders.isHidden(open.moved)) open.moved = sliders.first;
  const value = now.strength;
  strength.show({ value, start: 1, changed: value !== 1, text: `${value.toFixed(2)}×`, spoken: `${value.toFixed(2)} times` });
  byId("make-strip").textContent = `Gradual strip: ${inWords(open.moved).toLowerCase()}`;
  if (open.code) writeCode(open.code).catch(report);
}

/** What to ask of the service, one call for each face that is to change; the chosen one last, as it changes most often. */
function plan() {
  const order = [...open.edits.keys()].sort((a, b) => (a === open.face) - (b === open.face));
  return order.flatMap((index) => {
    const asked = open.edits[index];
    const attributes = asked.wishes(sliders.sensitive, sliders.experiments);
    if (Object.keys(attributes).length === 0) return [];
    const experimental = Object.entries(attributes).some(([name, value]) => asked.isExperiment(name, value)) || null;
    const strength = asked.strength === 1 ? null : asked.strength;
    return [{ face: open.photo.faces[index], fields: { attributes, strength, experimental } }];
  });
}

async function draw(steps, signal) {
  const { photo, preview } = open;
  const started = performance.now();
  stage.busy = true;
  try {
    const fields = steps.map((step) => ({ ...step, fields: { ...step.fields, quality: PREVIEW_QUALITY } }));
    const picture = await preview.render(fields, { accept: photo.previewType, signal, onWait: sayBusy });
    if (signal.aborted || photo !== open.photo) return;
    await stage.showEdited(picture);
    byId("timing").textContent = steps.length ? `${Math.round(performance.now() - started)} ms` : "";
    hideProblem();
    if (byId("status").dataset.busy) say("");
  } catch (error) {
    if (!signal.aborted) report(error, { label: "Try again", run: changed });
  } finally {
    stage.busy = false;
  }
}

// ---- results

async function download() {
  const { photo, original } = open;
  say("Editing at full resolution…");
  const steps = plan().map((step) => ({ ...step, fields: { ...step.fields, quality: QUALITY } }));
  const picture = await original.render(steps, { onWait: sayBusy });
  save(picture, steps.length ? editedName(photo.name, picture.type) : photo.name);
  say(`Downloaded at ${photo.width} × ${photo.height} pixels`);
}

function save(picture, name) {
  const url = URL.createObjectURL(picture);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // some browsers read it only when the user has chosen a place
}

async function makeStrip() {
  const { photo, moved, model, face } = open;
  const now = edit();
  say("Drawing the strip…");
  // Towards where the slider was moved; an untouched one goes to its far side, or to the one that is offered.
  const [lowest, highest] = now.range(moved, sliders.experiments);
  const far = now.start(moved) < 0 ? highest > now.start(moved) : lowest >= now.start(moved);
  const up = now.isAsked(moved) ? now.value(moved) > now.start(moved) : far;
  const target = up ? Math.max(1, now.value(moved)) : Math.min(-1, now.value(moved));
  const experimental = now.isExperiment(moved, target) || null;
  const goal = { attribute: moved, target: Math.round(100 * target) / 100, experimental };
  const fields = { ...photo.fields(model), ...goal, steps: STRIP_STEPS };
  const picture = await api.sweep(photo.preview, { ...fields, face, quality: QUALITY }, { accept: "image/jpeg", onWait: sayBusy });
  const name = `${photo.name.replace(/\.[^.]*$/, "")}-${moved.toLowerCase()}.jpg`;
  const link = byId("strip-download");
  URL.revokeObjectURL(link.href);
  Object.assign(link, { href: URL.createObjectURL(picture), download: name });
  byId("strip-picture").src = link.href;
  byId("strip-picture").alt = `${inWords(moved)}, from the photo as it was to ${target.toFixed(2)} in ${STRIP_STEPS} steps`;
  byId("strip-caption").textContent = `${inWords(moved)}, from the photo as it was.`;
  byId("strip").hidden = false;
  byId("strip").scrollIntoView({ block: "nearest", behavior: "smooth" });
  say("The strip is ready");
}

async function copyCode(write) {
  const text = await writeCode(write);
  byId("code").scrollIntoView({ block: "nearest", behavior: "smooth" });
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    // Pages that come neither over HTTPS nor from this computer have no clipboard.
    getSelection().selectAllChildren(byId("code"));
    say("Selected: copy it with your keyboard");
  }
}

async function writeCode(write) {
  const { photo, original, model } = open;
  const wanted = plan();
  const steps = [];
  for (const { face, fields } of wanted.length ? wanted : [{ face: photo.faces[open.face], fields: { attributes: {} } }]) {
    const index = await original.index(face, { onWait: sayBusy });
    const all = { ...photo.fields(model), ...fields, face: index || null };
    steps.push(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null && value !== undefined)));
  }
  const text = write({ photo, steps, generated: photo.seed === null ? null : generated(photo.seed) });
  open.code = write;
  byId("code").textContent = text;
  byId("code").hidden = false;
  return text;
}

// ---- telling

function say(text) {
  const status = byId("status");
  status.textContent = text;
  delete status.dataset.busy;
}

function sayBusy(problem) {
  say(`The service is busy; trying again in ${problem.retryAfter} s`);
  byId("status").dataset.busy = "true";
}

function report(error, action = null) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  say("");
  const known = error instanceof Problem;
  showProblem(known ? error : { title: "Something went wrong in this page", detail: String(error.message) }, action);
}

// ---- wiring

function press(id, work) {
  const button = byId(id);
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    try {
      await work();
      hideProblem();
    } catch (error) {
      report(error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

const SOURCES = { file: () => byId("file").click(), camera: openCamera, random: () => openRandom(anySeed()) };
for (const button of document.querySelectorAll("[data-source]")) {
  button.addEventListener("click", SOURCES[button.dataset.source]);
}
for (const id of ["file", "capture"]) {
  byId(id).addEventListener("change", ({ target }) => {
    openFile(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
}
byId("model").addEventListener("change", ({ target }) => useModel(target.value).catch(report));
press("reset", resetAll);
press("download", download);
press("make-strip", makeStrip);
press("copy-curl", () => copyCode(curl));
press("copy-python", () => copyCode(python));

let depth = 0; // the pointer leaves one element as it enters the next
addEventListener("dragenter", () => document.body.toggleAttribute("data-dragging", ++depth > 0));
addEventListener("dragleave", () => document.body.toggleAttribute("data-dragging", --depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.toggleAttribute("data-dragging", false);
  openFile(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => openFile(event.clipboardData.files[0]));

start();
