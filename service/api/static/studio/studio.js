// The studio: wires the controls of the page to what they do. README.md says which module does what.

import * as api from "./api.js";
import { openBatch } from "./batch.js";
import { takePhoto } from "./camera.js";
import { byId } from "./dom.js";
import { applyToAll, chooseFace, redo, resetAll, show, stage, undo, withModel } from "./editor.js";
import { listen } from "./gestures.js";
import { open } from "./open.js";
import { Photo } from "./photo.js";
import { hideProblem } from "./problem.js";
import { closeSheets, generatedBy, linked } from "./results.js";
import { isLeaving } from "./saving.js";
import { forgetEverything, forgetPhoto, keepPhoto, keepsPhoto, keptPhoto, remember, remembered } from "./session.js";
import { press, progress, report, say, sayBusy } from "./telling.js";
import "./welcome.js";

const LARGEST_SEED = 999_999; // short enough to be told to somebody
let opening = new AbortController();
let starting = null;
let before = null; // what was asked of a photo that has to be opened again
let held = null; // what had the focus before something was opened
const BEHIND = document.querySelectorAll("body > header, body > main, body > footer");

// ---- opening

/** Get to know the models, once. */
const started = () =>
  (starting ??= start().catch((error) => {
    starting = null;
    throw error;
  }));

async function start() {
  const models = await api.models();
  const chooser = byId("model");
  chooser.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  byId("models").hidden = models.length < 2;
  const preferred = models.find((model) => model.default) ?? models[0];
  await withModel(preferred);
  chooser.value = preferred.name;
  document.body.dataset.ready = "";
}

async function useModel(name) {
  const chooser = byId("model");
  if (open.photo) say("Changing the model…");
  stage.busy = open.photo !== null;
  try {
    await withModel(await api.model(name)); // it may have been reloaded since
  } finally {
    stage.busy = false;
    chooser.value = open.model.name;
  }
}

/** Open a file. Whatever was open stays until the new one is known to be good; `asked` is what is asked of its faces. */
async function openFile(file, origin = {}, asked = null) {
  if (!file) return;
  const signal = showOpening("Looking for faces…", file);
  try {
    await started();
    const onProgress = progress("Sending the photo");
    const photo = await Photo.open(file, open.model, { signal, onWait: sayBusy, onProgress, ...origin });
    if (signal.aborted) return;
    hideProblem();
    closeSheets();
    const again = before && before.source.name === photo.name && before.source.size === file.size ? before.asked : null;
    await show(photo, asked ?? again ?? []);
    byId("again").hidden = true;
    before = null;
    if (keepsPhoto()) await keepPhoto(file);
    remember();
    const count = photo.faces.length;
    const named = photo.seed === null ? "" : ` · seed ${photo.seed}`;
    say(count === 1 ? `One face${named}` : `${count} faces: choose one below the photo`);
    hideOpening();
    byId("stage").focus({ preventScroll: true });
  } catch (error) {
    if (signal.aborted) return;
    const asFramed = { label: "Use it as a framed face", run: () => openFile(file, { ...origin, framed: true }) };
    const again = { label: "Try again", run: () => openFile(file, origin, asked) };
    hideOpening();
    report(error, error.framable ? asFramed : error.status === 0 || error.status >= 500 ? again : null);
  } finally {
    if (!signal.aborted) hideOpening();
  }
}

/** Say what is being opened, and end what was; the signal of the new one. */
function showOpening(words, file = null) {
  opening.abort();
  opening = new AbortController();
  say(words);
  if (!("opening" in document.body.dataset)) held = document.activeElement;
  document.body.dataset.opening = "";
  for (const part of BEHIND) part.inert = true;
  const image = byId("opening-picture");
  URL.revokeObjectURL(image.src);
  image.hidden = true;
  image.onload = () => (image.hidden = false);
  if (file) image.src = URL.createObjectURL(file);
  byId("opening-cancel").focus();
  return opening.signal;
}

function hideOpening() {
  if (!("opening" in document.body.dataset)) return;
  delete document.body.dataset.opening;
  for (const part of BEHIND) part.inert = false;
  held?.focus();
}

const anySeed = () => Math.floor(Math.random() * (LARGEST_SEED + 1));

async function openRandom(seed, asked = null) {
  const signal = showOpening("Drawing a face…");
  try {
    await started();
    const picture = await api.generate(generatedBy(open.model, seed), { signal, onWait: sayBusy });
    if (!signal.aborted) await openFile(new File([picture], `face-${seed}.png`, { type: "image/png" }), { seed }, asked);
  } catch (error) {
    if (signal.aborted) return;
    hideOpening();
    report(error, { label: "Try again", run: () => openRandom(seed, asked) });
  }
}

/** One of the page's own pictures, with an edit that suits it. */
async function openExample(path, asked) {
  const signal = showOpening("Opening the example…");
  try {
    const response = await fetch(path, { signal });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    const picture = await response.blob();
    if (signal.aborted) return;
    await openFile(new File([picture], path.split("/").at(-1), { type: "image/webp" }), { example: path }, asked);
  } catch (error) {
    if (signal.aborted) return;
    hideOpening();
    report(error, { label: "Try again", run: () => openExample(path, asked) });
  }
}

async function openCamera() {
  try {
    await openFile(await takePhoto());
  } catch {
    // Without a camera for pages there may still be the phone's own camera program.
    byId("capture").click();
  }
}

async function openFiles(files) {
  const pictures = [...files];
  if (pictures.length < 2) return openFile(pictures[0]);
  try {
    await started();
    openBatch(pictures);
  } catch (error) {
    report(error);
  }
}

/** Whether something is opened again without its user: a generated face, an example, a photo that this tab keeps. */
function reopens() {
  const { source } = remembered() ?? {};
  return linked() !== null || (source && (source.seed !== undefined || source.example || keepsPhoto()));
}

/** What a link names, or what was open before the page was loaded again. */
async function resume() {
  const link = linked();
  const earlier = remembered();
  const named = link?.model ?? earlier?.model;
  if (named && [...byId("model").options].some(({ value }) => value === named)) await useModel(named);
  if (link) return openRandom(link.seed, [link.asked]);
  if (!earlier) return;
  const { source, asked } = earlier;
  if (source.seed !== undefined) return openRandom(source.seed, asked);
  if (source.example) return openExample(source.example, asked);
  const kept = keptPhoto();
  if (kept) return openFile(kept, source.framed ? { framed: true } : {}, asked);
  if (asked.every(({ attributes }) => Object.keys(attributes).length === 0)) return;
  before = earlier;
  byId("again-name").textContent = source.name;
  byId("again").hidden = false;
}

// ---- wiring

const SOURCES = { file: () => byId("file").click(), camera: openCamera, random: () => openRandom(anySeed()) };
for (const button of document.querySelectorAll("[data-source]")) {
  button.addEventListener("click", () => SOURCES[button.dataset.source]());
}
for (const button of document.querySelectorAll("[data-example]")) {
  const { example, asked } = button.dataset;
  button.addEventListener("click", () => openExample(`studio/${example}`, [{ attributes: JSON.parse(asked) }]));
}
for (const id of ["file", "capture"]) {
  byId(id).addEventListener("change", ({ target }) => {
    openFiles([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
}
byId("model").addEventListener("change", ({ target }) => useModel(target.value).catch(report));
byId("opening-cancel").addEventListener("click", () => {
  opening.abort();
  say("");
  hideOpening();
});
for (const id of ["forget", "again-forget"]) {
  byId(id).addEventListener("click", () => {
    forgetEverything();
    location.replace(location.pathname + location.search); // without the face that a link names
  });
}
byId("undo").addEventListener("click", undo);
byId("redo").addEventListener("click", redo);
press("reset", resetAll);
press("apply-all", applyToAll);
byId("numbers").addEventListener("change", ({ target }) => document.body.toggleAttribute("data-numbers", target.checked));
byId("keep-photo").checked = keepsPhoto();
byId("keep-photo").addEventListener("change", async ({ target }) => {
  if (!target.checked) forgetPhoto();
  else if (!(await keepPhoto(open.photo.file))) {
    target.checked = false;
    say("The photo is too large to be kept in this tab");
    return;
  }
  say(target.checked ? "This tab keeps the photo until it is closed" : "The photo is no longer kept");
});

// The view: fingers, wheel and keys on the stage, and its buttons.
listen(stage, {
  onTap: (x, y) => {
    const face = stage.faceAt(x, y);
    if (face !== null && face !== open.edits.chosen) chooseFace(face);
  },
  onDoubleTap: (x, y) => (stage.viewport.zoom > 1.05 ? stage.view((v) => v.fit()) : stage.view((v) => v.zoomAt(2.5, x, y))),
  onKey: (key) => {
    if (key === "0") stage.view((viewport) => viewport.fit());
    else if (key === "f") stage.look(open.edits.chosen);
    return key === "0" || key === "f";
  },
});
byId("zoom-in").addEventListener("click", () => stage.view((viewport) => viewport.zoomAt(1.4)));
byId("zoom-out").addEventListener("click", () => stage.view((viewport) => viewport.zoomAt(1 / 1.4)));
byId("zoom-face").addEventListener("click", () => stage.look(open.edits.chosen));
byId("zoom-all").addEventListener("click", () => stage.view((viewport) => viewport.fit()));
stage.element.addEventListener("pointerenter", () => (stage.editing = false));

// The photo as it was, while the button or the key is held.
const compare = byId("compare");
const comparing = (on) => {
  stage.comparing = on;
  compare.setAttribute("aria-pressed", String(on));
};
compare.addEventListener("pointerdown", () => comparing(true));
for (const end of ["pointerup", "pointercancel", "pointerleave", "blur"]) compare.addEventListener(end, () => comparing(false));
compare.addEventListener("keydown", ({ key }) => (key === " " || key === "Enter") && comparing(true));
compare.addEventListener("keyup", () => comparing(false));

const isTyping = (target) => target.matches("input:not([type=range], [type=checkbox]), select, textarea");
addEventListener("keydown", (event) => {
  if (!open.photo || isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  } else if (key === "c" && !event.ctrlKey && !event.metaKey && !event.altKey) comparing(true);
});
addEventListener("keyup", ({ key }) => key.toLowerCase() === "c" && comparing(false));

let depth = 0; // the pointer leaves one element as it enters the next
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && !isLeaving();
addEventListener("dragenter", (event) => holdsFiles(event) && document.body.toggleAttribute("data-dragging", ++depth > 0));
addEventListener("dragleave", (event) => holdsFiles(event) && document.body.toggleAttribute("data-dragging", --depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.toggleAttribute("data-dragging", false);
  if (event.dataTransfer.files.length && !isLeaving()) openFiles(event.dataTransfer.files);
});
addEventListener("paste", (event) => event.clipboardData.files.length && openFiles(event.clipboardData.files));
addEventListener("hashchange", () => linked() && resume().catch(report));

async function begin() {
  try {
    if (reopens()) showOpening("Opening it again…");
    await started();
    await resume();
  } catch (error) {
    hideOpening();
    report(error, { label: "Try again", run: begin });
  }
}
begin();
