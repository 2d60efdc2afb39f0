// A picture from the camera.

import { byId } from "./dom.js";
import { toBlob } from "./photo.js";

/** A file from the camera, null if the user would rather not; throws where there is no camera to be had. */
export async function takePhoto() {
  // Browsers offer cameras to pages from this computer or over HTTPS only.
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("no camera");
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "user", width: { ideal: 1920 }, height: { ideal: 1080 } },
  });
  const dialog = byId("camera");
  const view = byId("camera-view");
  try {
    view.srcObject = stream;
    dialog.showModal();
    return (await decision(dialog)) ? await still(view) : null;
  } finally {
    if (dialog.open) dialog.close();
    view.srcObject = null;
    for (const track of stream.getTracks()) track.stop();
  }
}

function decision(dialog) {
  return new Promise((resolve) => {
    const take = byId("camera-take");
    const cancel = byId("camera-cancel");
    const done = (taken) => {
      take.onclick = cancel.onclick = dialog.oncancel = null;
      resolve(taken);
    };
    take.onclick = () => done(true);
    cancel.onclick = dialog.oncancel = () => done(false);
    take.focus();
  });
}

async function still(view) {
  if (!view.videoWidth) await new Promise((resolve) => view.addEventListener("loadeddata", resolve, { once: true }));
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  return new File([await toBlob(canvas, 0.95)], "camera.jpg", { type: "image/jpeg" });
}
