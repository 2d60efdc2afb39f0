// What the page tells: a line of status that screen readers hear, problems, signs of work, and files for the user.

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { hideProblem, showProblem } from "./problem.js";

const LONG_ENOUGH = 5_000; // milliseconds until what was told no longer lies over the page
let fading = 0;

export function say(text) {
  const status = byId("status");
  status.textContent = text;
  delete status.dataset.busy;
  delete status.dataset.old;
  clearTimeout(fading);
  fading = setTimeout(() => (status.dataset.old = ""), LONG_ENOUGH);
}

/** A call is going to be tried again: the service is busy, or does not answer. */
export function sayBusy(problem) {
  const why = problem.status === 0 ? "The service does not answer" : "The service is busy";
  say(`${why}; trying again in ${problem.retryAfter} s`);
  byId("status").dataset.busy = "true";
  clearTimeout(fading);
}

/** What sayBusy said is over. */
export function sayReady() {
  if (byId("status").dataset.busy) say("");
}

export function report(error, action = null) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  say("");
  const known = error instanceof Problem;
  showProblem(known ? error : { title: "Something went wrong in this page", detail: String(error.message) }, action);
}

/** Do `work` at a click of a button, which shows that it is under way; problems are told, and may be tried again. */
export function press(id, work) {
  const button = byId(id);
  const run = async () => {
    if (button.hasAttribute("aria-busy")) return;
    button.setAttribute("aria-busy", "true");
    try {
      await work();
      hideProblem();
      sayReady();
    } catch (error) {
      report(error, { label: "Try again", run });
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
  button.addEventListener("click", run);
}

/** Give the user a file. */
export function save(picture, name) {
  const url = URL.createObjectURL(picture);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // some browsers read it only when the user has chosen a place
}

/** Progress in words: "Sending the photo: 40 %". */
export const progress = (what) => (share) => say(`${what}: ${Math.round(100 * share)} %`);
