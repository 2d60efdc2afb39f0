// What went wrong, where everybody sees it, until it is closed or something works.

import { byId } from "./dom.js";

let held = null; // what had the focus before

/** Show a problem, with a button `{label, run}` where there is something to do about it. */
export function showProblem({ title, detail, requestId }, action = null) {
  const button = byId("problem-action");
  byId("problem-title").textContent = title;
  byId("problem-detail").textContent = detail;
  byId("problem-id").textContent = requestId ? `Request ${requestId}` : "";
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = () => {
    hideProblem();
    action.run();
  };
  byId("problem-close").onclick = hideProblem;
  const panel = byId("problem");
  if (panel.hidden) held = document.activeElement;
  panel.hidden = false;
}

export function hideProblem() {
  const panel = byId("problem");
  if (panel.contains(document.activeElement)) held?.focus(); // it goes away, and the focus must not go with it
  panel.hidden = true;
}
