// The whole edited picture at its full size: what is downloaded, copied, dragged out, and saved by the browser's menu.

import * as api from "./api.js";
import { editedName } from "./code.js";
import { QUALITY, open, originalFields, plan } from "./open.js";

let made = null; // the last one: {photo, asked, picture, name, url}

const askedNow = () => JSON.stringify([open.model.name, open.model.version, plan()]);
const isNow = ({ photo, asked }) => photo === open.photo && asked === askedNow();

/** The picture as `{picture, name, url}` if it has been drawn; null if not, or if something else is asked by now. */
export const drawn = () => (made && isNow(made) ? made : null);

/** The same, drawn now unless it has been; the file itself where nothing is asked. `options` as of a call. */
export async function whole(options = {}) {
  if (drawn()) return made;
  const { photo } = open;
  const asked = askedNow();
  const isEdited = plan().length > 0;
  const picture = isEdited ? await edited(photo, options) : photo.file;
  const name = isEdited ? editedName(photo.name, picture.type) : photo.name;
  const now = { photo, asked, picture, name };
  if (!isNow(now)) return now; // somebody else's wish by now
  URL.revokeObjectURL(made?.url);
  made = { ...now, url: URL.createObjectURL(picture) };
  document.dispatchEvent(new CustomEvent("facet-whole"));
  return made;
}

async function edited(photo, options) {
  const fields = { ...(await originalFields(options)), quality: QUALITY };
  return api.edit(photo.original, fields, options);
}
