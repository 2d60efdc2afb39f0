// What outlives a reload: the edits, in the tab's storage. The photo is there only if its user wants that.

import { open } from "./open.js";

const PLACE = "facet-edits";
const PHOTO = "facet-photo";

/** Write down what is asked of the open photo, and what photo it is. */
export function remember() {
  const { photo, edits, model } = open;
  if (!photo || !edits) return;
  const { seed, example, framed, name, file } = photo;
  const source = seed !== null ? { seed } : example ? { example } : { name, size: file.size, framed };
  write(PLACE, JSON.stringify({ model: model.name, source, asked: edits.asked, chosen: edits.chosen }));
}

/** What was written down before the page was loaded again; null if nothing was. */
export function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE));
  } catch {
    return null;
  }
}

export const keepsPhoto = () => sessionStorage.getItem(PHOTO) !== null;

/** Keep the photo in this tab until it is closed; false where it is too large for that. */
export async function keepPhoto(file) {
  const data = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return write(PHOTO, JSON.stringify({ name: file.name, type: file.type, data }));
}

export function forgetPhoto() {
  sessionStorage.removeItem(PHOTO);
}

/** Nothing of the photo or its edits outlives the page. */
export function forgetEverything() {
  forgetPhoto();
  sessionStorage.removeItem(PLACE);
}

/** The photo that this tab keeps, as a File; null if it keeps none. */
export function keptPhoto() {
  const kept = JSON.parse(sessionStorage.getItem(PHOTO) ?? "null");
  if (!kept) return null;
  const bytes = Uint8Array.from(atob(kept.data.split(",")[1]), (letter) => letter.charCodeAt(0));
  return new File([bytes], kept.name, { type: kept.type });
}

function write(place, text) {
  try {
    sessionStorage.setItem(place, text);
    return true;
  } catch {
    return false; // no room in it, or none allowed
  }
}
