// Editing: the controls change what is asked of the faces, and the picture follows.

import * as api from "./api.js";
import { inWords, levelOf, strengthOf } from "./attributes.js";
import { byId, settled } from "./dom.js";
import { WHOLE, around, overlap } from "./geometry.js";
import { FaceRow } from "./face-row.js";
import { HistoryRow } from "./history-row.js";
import { Latest } from "./latest.js";
import { LookRow } from "./look-row.js";
import { toggleLook } from "./looks.js";
import { PREVIEW_QUALITY, QUALITY, open, originalFields, plan, previewFields } from "./open.js";
import { hideProblem } from "./problem.js";
import { remember } from "./session.js";
import { Slider, Sliders } from "./sliders.js";
import { Stage } from "./stage.js";
import { Edits } from "./state.js";
import { report, say, sayBusy, sayReady } from "./telling.js";
import { whole } from "./whole.js";

const PATIENCE = 15; // seconds that sending the whole file may take without being asked for
const MARGIN = 1.15; // of the sharp part around what is seen
const MOST_PIXELS = 2400; // of its longest side
const REACH = 5; // times a face's box, within which its edit lies
const SMALL = 4e6; // pixels of a photo that is drawn as a whole as soon as an edit rests
const SOON = 3; // seconds that its file may take on the way

export const stage = new Stage(() => viewed());
export const sliders = new Sliders({ onInput: move, onChange: commit, onReset: reset, onSwitch: switched }, open.switches);
const faceRow = new FaceRow(byId("faces"), (index) => chooseFace(index));
const lookRow = new LookRow(byId("looks"), byId("looks-note"), tryLook);
const historyRow = new HistoryRow(byId("history"), goTo);
const strength = new Slider(byId("strength"), {
  id: "strength-value",
  label: "Strength",
  hint: "How far the photo goes towards what the sliders say: not at all, all the way, or beyond",
  lowest: 0,
  highest: 2,
  step: 0.05,
  onInput: setStrength,
  onChange: commit,
  onReset: () => (setStrength(1), commit()),
});
const follow = new Latest(draw);
const sharpening = new Latest(sharpen);
// Not while the preview is under way, or waits for room: it asks for this once it is there.
const sharpenSoon = settled(250, () => open.photo && !follow.isBusy && sharpening.ask());
let label = "As it was";

// ---- what is open

/** Show a photo whose faces are known; `asked` is what was asked of them before. */
export async function show(photo, asked = []) {
  follow.cancel();
  sharpening.cancel();
  stage.busy = false;
  open.photo = photo;
  edits(asked);
  byId("welcome").hidden = true;
  for (const id of ["workplace", "dock", "sources", "steps"]) byId(id).hidden = false;
  byId("timing").textContent = "";
  await stage.showSharp(null);
  await stage.open(photo);
  document.dispatchEvent(new CustomEvent("facet-drawn"));
  faceRow.build(photo, stage.edited);
  stage.number(faceRow.order);
  chooseFace(0, false);
  stage.look(photo.faces.length === 1 ? 0 : null);
  stage.reveal(0); // in a group it may stand anywhere
  historyRow.clear();
  keepStep("As it was");
  historyRow.picture(0, stage.edited, photo.faces[0].share);
  if (asked.length) changed();
  else sharpenSoon();
}

function edits(asked) {
  open.edits = new Edits(open.model.attributes, open.photo.faces);
  open.edits.load(asked, true);
  lookRow.forget();
}

/** Keep the photo and what is asked of it with another model. */
export async function withModel(model) {
  const { photo } = open;
  const asked = open.edits?.asked ?? [];
  const chosen = open.edits?.chosen ?? 0;
  if (photo) {
    stage.busy = true;
    try {
      await photo.findFaces(model, { onWait: sayBusy });
    } finally {
      stage.busy = false;
    }
  }
  open.model = model;
  sliders.build(model);
  byId("about").textContent = `${model.name} ${model.version}. Its licence: ${model.weights_licence}.`;
  open.moved = sliders.first;
  if (!photo) return;
  edits(asked);
  historyRow.clear();
  keepStep("As before");
  faceRow.build(photo, stage.edited);
  stage.number(faceRow.order);
  chooseFace(Math.min(chosen, photo.faces.length - 1), false);
  changed();
}

export function chooseFace(index, near = true) {
  open.edits.chosen = index;
  if (near) {
    stage.look(index);
    stage.editing = true; // its outline has told enough
  }
  refresh();
}

// ---- what is asked

function move(name, value) {
  open.moved = name;
  open.edits.face.set(name, value);
  label = `${inWords(name)}: ${levelOf(open.edits.face.value(name))}`;
  changed();
}

function reset(name) {
  open.edits.face.reset(name);
  label = `${inWords(name)}: as in the photo`;
  changed();
  commit();
}

function setStrength(value) {
  open.edits.face.strength = value;
  label = `Strength: ${strengthOf(value)}`;
  changed();
}

function tryLook(look) {
  toggleLook(open.edits.face, look);
  open.moved = Object.keys(look.attributes)[0];
  const [name] = Object.keys(look.attributes);
  label = open.edits.face.isAsked(name) ? look.name : `Without: ${look.name.toLowerCase()}`;
  changed();
  commit();
}

/** Ask for a value of an attribute, as a step of the history. */
export function setValue(name, value) {
  move(name, value);
  commit();
}

export function resetAll() {
  open.edits.resetAll();
  label = "Everything as it was";
  changed();
  commit();
}

export function applyToAll() {
  open.edits.applyToAll();
  label = `The same for all ${open.edits.faces.length} faces`;
  changed();
  commit();
}

export function undo() {
  if (open.edits?.undo()) stepped("Undone");
}

export function redo() {
  if (open.edits?.redo()) stepped("Redone");
}

function goTo(depth) {
  open.edits.goTo(depth);
  stepped("Back to that step");
}

function stepped(words) {
  label = words;
  say(words);
  changed();
  remember();
}

function switched() {
  lookRow.forget();
  changed();
}

/** What was moved is let go: a step of the history. */
function commit() {
  if (!open.edits.commit()) return;
  say(label);
  keepStep(label);
  remember();
  refresh();
}

function keepStep(words) {
  historyRow.add(open.edits.depth, words, open.edits);
}

// ---- what is seen

function changed() {
  if (!open.photo) return;
  stage.editing = true;
  stage.busy = true; // from now on, not only once something is asked of the service
  refresh();
  follow.ask();
}

/** Bring every control up to date with what is asked of the chosen face. */
function refresh() {
  const { edits, photo } = open;
  const now = edits.face;
  sliders.show(now);
  // What was moved may have been hidden since.
  if (!now.has(open.moved) || (!now.isAsked(open.moved) && sliders.isHidden(open.moved))) open.moved = sliders.first;
  const value = now.strength;
  const words = value === 1 ? "as the sliders say" : strengthOf(value);
  strength.show({ value, start: 1, changed: value !== 1, words, number: `${value.toFixed(2)}×` });
  byId("make-strip").textContent = `Gradual strip: ${inWords(open.moved).toLowerCase()}`;
  // Not `disabled`, which would take the focus from whoever undoes the last step by keyboard.
  byId("undo").setAttribute("aria-disabled", String(!edits.canUndo));
  byId("redo").setAttribute("aria-disabled", String(!edits.canRedo));
  byId("apply-all").hidden = photo.faces.length < 2 || now.isEmpty;
  stage.choose(edits.chosen, (index) => edits.isEdited(index));
  faceRow.show(edits);
  lookRow.show(open);
  historyRow.show(edits);
  document.dispatchEvent(new CustomEvent("facet-edited"));
}

async function draw(_, signal) {
  const { photo } = open;
  const started = performance.now();
  stage.busy = true;
  sharpening.cancel();
  try {
    const isAsked = plan().length > 0;
    const fields = { ...previewFields(), quality: PREVIEW_QUALITY };
    const options = { accept: photo.previewType, signal, onWait: sayBusy };
    const picture = isAsked ? await api.edit(photo.preview, fields, options) : photo.preview.picture;
    if (signal.aborted || photo !== open.photo) return;
    await stage.showSharp(null);
    await stage.showEdited(picture);
    historyRow.picture(open.edits.depth, stage.edited, photo.faces[open.edits.chosen].share);
    document.dispatchEvent(new CustomEvent("facet-drawn"));
    byId("timing").textContent = isAsked ? `${Math.round(performance.now() - started)} ms` : "";
    hideProblem();
    sayReady();
    sharpenSoon();
  } catch (error) {
    if (!signal.aborted) report(error, { label: "Try again", run: changed });
  } finally {
    stage.busy = false;
  }
}

/** Do what somebody waits for; what only looks sharper is drawn afterwards. */
export async function urgently(work) {
  sharpenSoon.cancel();
  sharpening.cancel();
  try {
    return await work();
  } finally {
    sharpenSoon();
  }
}

function viewed() {
  if (open.edits) sharpenSoon();
}

/** Draw what is seen as sharp as the display is, from the file itself: a small photo as a whole, of others that part. */
async function sharpen(_, signal) {
  const { photo } = open;
  const seconds = photo.file.size / photo.bytesPerSecond;
  try {
    if (plan().length === 0) await stage.showSharp(photo.file, WHOLE);
    else if (photo.width * photo.height <= SMALL && seconds < SOON) {
      const { picture } = await whole({ signal });
      if (!signal.aborted && photo === open.photo) await stage.showSharp(picture, WHOLE);
    } else if (photo.original.isThere || seconds < PATIENCE) await sharpenPart(photo, signal);
  } catch (error) {
    // The picture is there already, only less sharp.
    if (error.name !== "AbortError") console.info(error.message);
  }
}

async function sharpenPart(photo, signal) {
  const [left, top, right, bottom] = stage.viewport.region;
  const pixels = Math.max(stage.element.clientWidth, stage.element.clientHeight) * devicePixelRatio;
  const region = grown([left, top, right, bottom]).map((share) => Math.round(1e4 * share) / 1e4);
  const options = { accept: "image/jpeg", signal };
  const { width, height } = photo;
  const isSeen = ({ face }) => overlap(around(photo.faces[face].share, REACH, width, height), region) > 0;
  const fields = { ...(await originalFields(options, plan().filter(isSeen))), region, quality: QUALITY };
  fields.size = Math.max(16, Math.min(MOST_PIXELS, Math.round(MARGIN * pixels)));
  const picture = await api.edit(photo.original, fields, options);
  if (!signal.aborted && photo === open.photo) await stage.showSharp(picture, region);
}

function grown([left, top, right, bottom]) {
  const more = (from, to) => ((MARGIN - 1) / 2) * (to - from);
  const [across, down] = [more(left, right), more(top, bottom)];
  return [Math.max(0, left - across), Math.max(0, top - down), Math.min(1, right + across), Math.min(1, bottom + down)];
}

/** The part of the photo around the chosen face. */
export function faceRegion(times = 1.6) {
  const { photo, edits } = open;
  return around(photo.faces[edits.chosen].share, times, photo.width, photo.height).map((share) => Math.round(1e4 * share) / 1e4);
}
