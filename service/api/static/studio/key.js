// The key that the service asks for, if it does. This tab keeps it until it is closed.

import { byId } from "./dom.js";

const PLACE = "facet-key";
let asking = null;

export const key = () => sessionStorage.getItem(PLACE);

/** Ask the user, once for all calls that wait; false if they would rather not. `refused` is what did not do. */
export function askForKey(refused) {
  if (key() !== refused) return Promise.resolve(true);
  asking ??= answer().finally(() => {
    asking = null;
  });
  return asking;
}

function answer() {
  const dialog = byId("key");
  const input = byId("key-value");
  return new Promise((resolve) => {
    const done = (given) => {
      if (given) sessionStorage.setItem(PLACE, given);
      input.value = "";
      dialog.close();
      resolve(Boolean(given));
    };
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      done(input.value.trim());
    };
    byId("key-cancel").onclick = dialog.oncancel = () => done("");
    byId("key-note").hidden = key() === null;
    dialog.showModal();
    input.focus();
  });
}
