// Ways out by hand: the picture dragged out of the page, and saved from a menu at the pointer.
// Browsers save and drag the picture of an image element, which has to be the whole one by then.

import { byId } from "./dom.js";
import { stage } from "./editor.js";
import { open, plan } from "./open.js";
import { copyPicture, download } from "./results.js";
import { report, say, sayBusy } from "./telling.js";
import { drawn, whole } from "./whole.js";

const menu = byId("saving");
const result = byId("result");
let dragging = false;

/** Whether what is dragged comes from this page. */
export const isLeaving = () => dragging;

const prepare = () => whole({ onWait: sayBusy }).catch(report);

// ---- dragging

addEventListener("dragstart", (event) => {
  dragging = true;
  if (!event.target.matches("#result, #after, #sharp") || plan().length === 0) return;
  const there = drawn();
  if (!there) {
    event.preventDefault();
    dragging = false;
    say("The whole picture is being drawn: drag it again in a moment");
    prepare().then(() => drawn() && say("The whole picture is ready to be dragged"));
    return;
  }
  event.dataTransfer.effectAllowed = "copy";
  event.dataTransfer.setData("DownloadURL", `${there.picture.type}:${there.name}:${there.url}`);
});
addEventListener("dragend", () => (dragging = false));
result.addEventListener("pointerenter", prepare);

/** The small one in the bar: the whole picture, or its preview until that is there. */
function showResult() {
  result.hidden = !open.photo || plan().length === 0;
  const { url = stage.edited.src } = drawn() ?? {};
  if (!result.hidden && result.src !== url) result.src = url;
}

for (const name of ["facet-drawn", "facet-whole"]) document.addEventListener(name, showResult);

// ---- the menu at the pointer, where the browser's own would save the preview

stage.element.addEventListener("contextmenu", (event) => {
  if (event.target !== stage.edited || drawn() || plan().length === 0) return;
  event.preventDefault();
  const { width, height } = open.photo;
  byId("saving-save").textContent = `Save the whole picture (${width} × ${height})`;
  menu.hidden = false;
  const { offsetWidth, offsetHeight } = menu.firstElementChild;
  menu.style.left = `${Math.max(0, Math.min(event.clientX, innerWidth - offsetWidth))}px`;
  menu.style.top = `${Math.max(0, Math.min(event.clientY, innerHeight - offsetHeight))}px`;
  byId("saving-save").focus();
});

function closeMenu() {
  if (menu.hidden) return;
  menu.hidden = true;
  stage.element.focus({ preventScroll: true });
}

for (const [id, work] of [["saving-save", download], ["saving-copy", copyPicture]]) {
  byId(id).addEventListener("click", () => {
    closeMenu();
    work().catch(report);
  });
}
addEventListener("keydown", ({ key }) => key === "Escape" && closeMenu());
addEventListener("pointerdown", ({ target }) => !menu.contains(target) && closeMenu());
addEventListener("resize", closeMenu);
