// What is open: the model, the photo, and the edits of its faces. Modules of the page share this one object.

import { fieldsOf, planOf } from "./state.js";

export const PREVIEW_QUALITY = 90;
export const QUALITY = 95;

/** `moved` names the attribute that was moved last; `switches` what else is offered. */
export const open = {
  model: null,
  photo: null,
  edits: null,
  moved: null,
  switches: { sensitive: false, experiments: false },
};

export const plan = () => planOf(open.edits, open.switches.sensitive, open.switches.experiments);

/** The parameters of an edit of the preview as it is asked for now. */
export const previewFields = () => ({ ...open.photo.fields(open.model), ...fieldsOf(plan()) });

/** The parameters of an edit of the file itself; of `steps` of the plan where not all of it is seen. */
export async function originalFields(options, steps = plan()) {
  const several = steps.length > 0 && open.photo.faces.length > 1;
  const indexOf = several ? await open.photo.inOriginal(open.model, options) : (index) => index;
  return { ...open.photo.fields(open.model), ...fieldsOf(steps, indexOf) };
}
