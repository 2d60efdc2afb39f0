// Many files at once: the same edit for each, one after the other, and all results in one archive.

import * as api from "./api.js";
import { editedName } from "./code.js";
import { byId, element } from "./dom.js";
import { FaceEdit } from "./attributes.js";
import { convincing, looksFor } from "./looks.js";
import { QUALITY, open } from "./open.js";
import { save, say } from "./telling.js";
import { zip } from "./zip.js";

const dialog = byId("batch");
let controller = new AbortController();
let run = 0;

/** Offer to edit these files, each in the same way. */
export function openBatch(files) {
  controller.abort();
  run += 1;
  const choices = offered();
  byId("batch-look").replaceChildren(...choices.map(({ name }, index) => new Option(name, String(index))));
  byId("batch-files").replaceChildren(
    ...files.map((file) => element("li", {}, element("span", { className: "name" }, file.name), element("span", { className: "state" }, "waits"))),
  );
  byId("batch-title").textContent = `The same edit for ${files.length} pictures`;
  byId("batch-progress").value = 0;
  byId("batch-progress").max = files.length;
  byId("batch-note").textContent = "";
  byId("batch-save").hidden = true;
  byId("batch-start").hidden = false;
  byId("batch-start").onclick = () => editAll(files, fieldsOf(choices[Number(byId("batch-look").value)]));
  dialog.showModal();
}

/** What can be asked of every picture: what is asked of the open one, and the looks. */
function offered() {
  const { model, edits, switches } = open;
  const { sensitive: withSensitive, experiments } = switches;
  const unknown = Object.fromEntries(model.attributes.map(({ name }) => [name, Number.NaN]));
  const sensitive = new Set(model.attributes.filter((attribute) => attribute.sensitive).map(({ name }) => name));
  const looks = looksFor(new FaceEdit(model.attributes, unknown), sensitive, withSensitive, experiments, convincing(model));
  const choices = looks.map(({ name, attributes }) => ({ name, attributes, strength: 1 }));
  const attributes = edits?.face.wishes(withSensitive, experiments) ?? {};
  if (Object.keys(attributes).length) choices.unshift({ name: "As the open photo", attributes, strength: edits.face.strength });
  return choices;
}

/** What to ask of the service for each picture. Experiments are only asked for where their switch is on. */
function fieldsOf({ attributes, strength }) {
  const { model, switches } = open;
  return {
    ...(model.default ? {} : { model: model.name }),
    attributes,
    ...(strength === 1 ? {} : { strength }),
    ...(byId("batch-faces").value === "all" ? { face: "all" } : {}),
    ...(switches.experiments ? { experimental: true } : {}),
    quality: QUALITY,
  };
}

async function editAll(files, fields) {
  const mine = ++run;
  controller = new AbortController();
  const { signal } = controller;
  byId("batch-close").focus(); // the button goes away, and the focus must not go with it
  byId("batch-start").hidden = true;
  const rows = [...byId("batch-files").children];
  const results = [];
  const tell = (row, state, words) => {
    row.dataset.state = state;
    row.lastChild.textContent = words;
  };
  for (const [index, file] of files.entries()) {
    if (mine !== run) return;
    tell(rows[index], "busy", "in work…");
    rows[index].scrollIntoView({ block: "nearest" });
    try {
      const onWait = (problem) => tell(rows[index], "busy", `busy; again in ${problem.retryAfter} s`);
      const picture = await api.edit({ picture: file, handle: async () => null }, fields, { signal, onWait });
      results.push({ name: editedName(file.name, picture.type), bytes: new Uint8Array(await picture.arrayBuffer()) });
      tell(rows[index], "done", "done");
    } catch (error) {
      if (error.name === "AbortError") return;
      tell(rows[index], "failed", error.message);
    }
    byId("batch-progress").value = index + 1;
    byId("batch-note").textContent = `${index + 1} of ${files.length}`;
  }
  const failed = files.length - results.length;
  byId("batch-note").textContent = failed ? `${results.length} edited, ${failed} could not be edited` : `All ${results.length} are edited`;
  if (results.length === 0) return;
  const button = byId("batch-save");
  button.hidden = false;
  button.onclick = () => save(zip(results), "facet-edited.zip");
  button.focus();
  say(byId("batch-note").textContent);
}

byId("batch-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  run += 1;
  controller.abort();
});
