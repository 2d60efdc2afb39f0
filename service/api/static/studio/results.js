// What leaves the page: the whole photo, strips, animations, and code that gives the same.

import * as api from "./api.js";
import { address } from "./api.js";
import { inWords, levelOf } from "./attributes.js";
import { curl, python } from "./code.js";
import { byId, cropped, decoded, element } from "./dom.js";
import { faceRegion, setValue, urgently } from "./editor.js";
import { QUALITY, open, originalFields, plan } from "./open.js";
import { ofFragment, toFragment } from "./state.js";
import { press, progress, save, say, sayBusy } from "./telling.js";
import { drawn, whole } from "./whole.js";

const STRIP_STEPS = 7;
const STRIP_SIDE = 96; // pixels of the page
const ANIMATION = { steps: 9, size: 512, milliseconds: 110 };
const PREVIEW = 88; // quality of what is looked at
const more = byId("more");
let written = null; // how the code that is shown was written

const stem = () => open.photo.name.replace(/\.[^.]*$/, "");

/** The whole edited picture, and what happens to it until then. */
async function told() {
  if (drawn() || plan().length === 0) return whole();
  const options = { onWait: sayBusy, onProgress: progress("Sending the photo") };
  say("Editing at full size…");
  await open.photo.original.handle(options);
  say("Editing at full size…");
  return urgently(() => whole(options));
}

export async function download() {
  const { width, height } = open.photo;
  const { picture, name } = await told();
  save(picture, name);
  say(`Downloaded at ${width} × ${height} pixels`);
}

export async function copyPicture() {
  // Browsers take PNG only, and want the promise of it while the click still counts.
  const picture = told().then(({ picture: blob }) => (blob.type === "image/png" ? blob : asPng(blob)));
  await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
  say("The picture is copied");
}

async function asPng(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

// ---- strip and animation

/** Towards where the slider was moved; an untouched one goes to its far side, or to the one that is offered. */
function goal() {
  const { moved, edits, switches } = open;
  const now = edits.face;
  const [lowest, highest] = now.range(moved, switches.experiments);
  const far = now.start(moved) < 0 ? highest > now.start(moved) : lowest >= now.start(moved);
  const up = now.isAsked(moved) ? now.value(moved) > now.start(moved) : far;
  const target = Math.round(100 * (up ? Math.max(1, now.value(moved)) : Math.min(-1, now.value(moved)))) / 100;
  return { target, experimental: now.isExperiment(moved, target) || null };
}

function stripFields() {
  const { photo, model, moved, edits } = open;
  const { target, experimental } = goal();
  return { ...photo.fields(model), face: edits.chosen || null, region: faceRegion(), attribute: moved, target, experimental };
}

async function makeStrip() {
  const { photo, moved, model, edits } = open;
  sheet("strip");
  byId("strip-steps").replaceChildren(...Array.from({ length: STRIP_STEPS }, () => element("span", { className: "thumb" })));
  byId("strip-caption").textContent = `${inWords(moved)}: drawing…`;
  const { target, experimental } = goal();
  const start = edits.face.start(moved);
  const values = Array.from({ length: STRIP_STEPS }, (_, step) => start + (step / (STRIP_STEPS - 1)) * (target - start));
  const size = Math.round(STRIP_SIDE * devicePixelRatio);
  const fields = {
    ...photo.fields(model),
    face: edits.chosen || null,
    attributes: {},
    variants: values.map((value, step) => (step === 0 ? {} : { [moved]: Math.round(100 * value) / 100 })),
    region: faceRegion(),
    size: Math.min(400, size),
    experimental,
    quality: QUALITY,
  };
  const picture = await decoded(await api.edit(photo.preview, fields, { accept: "image/jpeg", onWait: sayBusy }));
  const columns = Math.ceil(Math.sqrt(STRIP_STEPS));
  const [wide, high] = [picture.naturalWidth / columns, picture.naturalHeight / Math.ceil(STRIP_STEPS / columns)];
  const steps = values.map((value, step) => {
    const words = step === 0 ? "as it was" : `${Math.round((100 * step) / (STRIP_STEPS - 1))} %`;
    const canvas = cropped(picture, [(step % columns) * wide, Math.floor(step / columns) * high, wide, high], size);
    const button = element("button", { type: "button", "aria-label": `${inWords(moved)}: ${words}${step === 0 ? "" : `, ${levelOf(value)}`}` });
    button.append(canvas, element("span", { "aria-hidden": "true" }, words));
    button.addEventListener("click", () => setValue(moved, step === 0 ? start : value));
    return button;
  });
  URL.revokeObjectURL(picture.src);
  byId("strip-steps").replaceChildren(...steps);
  byId("strip-caption").textContent = `${inWords(moved)}. Tap a step to take it.`;
  byId("strip-download").onclick = () => downloadStrip(stripFields(), `${stem()}-${moved.toLowerCase()}.jpg`);
  say("The strip is ready");
}

async function downloadStrip(fields, name) {
  const asked = { ...fields, steps: STRIP_STEPS, size: 384, quality: QUALITY };
  save(await api.sweep(open.photo.preview, asked, { accept: "image/jpeg", onWait: sayBusy }), name);
}

async function makeAnimation() {
  const { photo, moved } = open;
  sheet("animation");
  const image = byId("animation-picture");
  image.hidden = true;
  byId("animation-caption").textContent = `${inWords(moved)}: drawing…`;
  const fields = { ...stripFields(), layout: "animation", ...ANIMATION, quality: PREVIEW };
  const picture = await api.sweep(photo.preview, fields, { accept: "image/webp", onWait: sayBusy });
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(picture);
  image.alt = `${inWords(moved)}, there and back`;
  image.hidden = false;
  const name = `${stem()}-${moved.toLowerCase()}.webp`;
  byId("animation-caption").textContent = `${inWords(moved)}, there and back.`;
  byId("animation-download").onclick = () => save(picture, name);
  say("The animation is ready");
}

// ---- code and links

async function copyCode(write) {
  const text = await writeCode(write);
  await copyText(text, byId("code"));
}

async function copyText(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    // Pages that come neither over HTTPS nor from this computer have no clipboard.
    getSelection().selectAllChildren(shown);
    say("Selected: copy it with your keyboard");
  }
}

async function writeCode(write) {
  const { photo, model } = open;
  const fields = { ...(await originalFields({ onWait: sayBusy })), quality: QUALITY };
  const generated = photo.seed === null ? null : generatedBy(model, photo.seed);
  const from = photo.example ? address(photo.example) : null;
  const text = write({ photo, fields, generated, from });
  written = write;
  byId("code").textContent = text;
  sheet("code-sheet");
  return text;
}

async function copyLink() {
  const { photo, model, edits } = open;
  if (photo.seed === null) return;
  const fragment = toFragment({ model: model.default ? null : model.name, seed: photo.seed, asked: edits.face.asked });
  history.replaceState(null, "", fragment);
  byId("code").textContent = location.href;
  written = null;
  sheet("code-sheet");
  await copyText(location.href, byId("code"));
}

/** What a generated face was asked with. */
export const generatedBy = (model, seed) => ({ ...(model.default ? {} : { model: model.name }), seed });

/** The face that a link to this page names, or null. */
export const linked = () => ofFragment(location.hash);

// ---- sheets above the bar, one at a time

const SHEETS = ["strip", "animation", "code-sheet"];

function sheet(id) {
  for (const each of SHEETS) byId(each).hidden = each !== id;
  const held = more.contains(document.activeElement);
  more.open = false;
  if (held) byId(id).focus({ preventScroll: true }); // the button goes away, and the focus must not go with it
}

export function closeSheets() {
  for (const each of SHEETS) byId(each).hidden = true;
  written = null;
}

for (const close of document.querySelectorAll(".sheet [data-close]")) {
  close.addEventListener("click", () => {
    closeSheets();
    more.querySelector("summary").focus(); // the sheet goes away, and the focus must not go with it
  });
}
// The menu closes as people know it from menus.
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !more.open) return;
  if (more.contains(document.activeElement)) more.querySelector("summary").focus();
  more.open = false;
});
addEventListener("pointerdown", ({ target }) => {
  if (!more.contains(target)) more.open = false;
});
more.addEventListener("focusout", ({ relatedTarget }) => {
  if (relatedTarget && !more.contains(relatedTarget)) more.open = false;
});
document.addEventListener("facet-edited", () => {
  byId("copy-link").hidden = open.photo.seed === null;
  if (written && !byId("code-sheet").hidden) writeCode(written).catch(() => {});
});
// What lies above the bar has to know how high it is.
new ResizeObserver(() => document.body.style.setProperty("--dock", `${byId("dock").offsetHeight}px`)).observe(byId("dock"));
press("download", download);
press("copy-picture", copyPicture);
press("make-strip", makeStrip);
press("make-animation", makeAnimation);
press("copy-curl", () => copyCode(curl));
press("copy-python", () => copyCode(python));
press("copy-link", copyLink);
