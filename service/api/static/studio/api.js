// The service's REST interface. Paths are relative, so that the page also works behind a path prefix.

import { askForKey, key } from "./key.js";

const MOST_RETRIES = 5;
const LONGEST_WAIT = 60; // seconds; a key may have to wait far longer, and its user wants to know
const PAUSES = [1, 2, 4, ...Array(12).fill(8)]; // seconds, while nothing answers: a service may take a minute to start
const TITLES = {
  400: "This file is broken",
  401: "This service asks for a key",
  403: "That is not allowed",
  404: "That is not there",
  410: "The service no longer has the photo",
  413: "Too large",
  415: "This is not a picture",
  422: "That does not work",
  429: "The service is busy",
  503: "The service is not ready",
  504: "That took too long",
};

/** What went wrong, in words for people; `status` is 0 where no answer came. */
export class Problem extends Error {
  constructor(status, title, detail, requestId = "", retryAfter = null) {
    super(detail);
    Object.assign(this, { status, title, detail, requestId, retryAfter });
  }
}

/** Where a call goes, as whoever copies it has to write it. */
export const address = (path) => new URL(path, document.baseURI).href;

/** Every model, with the attributes that may be asked for. */
export async function models() {
  const told = await (await call("GET", "v1/models")).json();
  return told.models.map(withEnabled);
}

/** One of them, as it is now. */
export const model = async (name) => withEnabled(await (await call("GET", `v1/models/${encodeURIComponent(name)}`)).json());

const withEnabled = (told) => ({ ...told, attributes: told.attributes.filter((attribute) => attribute.enabled) });

/** Have the service keep a picture for a while; `photo` of the answer is its handle. `onProgress` gets shares sent. */
export const keep = async (picture, options = {}) =>
  (await call("POST", "v1/photos", { ...options, body: form(picture, {}), send: options.onProgress && sent(options.onProgress) })).json();

// What follows takes a picture as an Upload (upload.js), which is sent once and named from then on.

/** The faces of a picture, largest first. */
export const encode = async (upload, fields, options = {}) => (await onPicture("v1/encode", upload, fields, options)).json();

/** The edited picture. `accept` is a media type, or anything: then the picture keeps its format. */
export const edit = async (upload, fields, options = {}) => (await onPicture("v1/edit", upload, fields, options)).blob();

/** One attribute changed gradually, as one picture. */
export const sweep = async (upload, fields, options = {}) => (await onPicture("v1/sweep", upload, fields, options)).blob();

/** A face that does not exist. */
export async function generate(fields, options = {}) {
  const json = { accept: "image/png", type: "application/json", body: JSON.stringify(fields), ...options };
  return (await call("POST", "v1/generate", json)).blob();
}

async function onPicture(path, upload, fields, options) {
  for (;;) {
    const handle = await upload.handle(options);
    const body = handle ? form(null, { photo: handle, ...fields }) : form(upload.picture, fields);
    try {
      return await call("POST", path, { ...options, body });
    } catch (error) {
      // The service was restarted, or needed the room: the picture goes there again.
      if (error.status !== 410 || !handle) throw error;
      upload.lost(handle);
    }
  }
}

function form(picture, fields) {
  const body = new FormData();
  if (picture) body.append("image", picture, "picture");
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    body.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  return body;
}

// A full queue is no error yet: the service says when there should be room, and the request is sent again then. Nor is
// a service that is being restarted.
async function call(method, path, { body, accept = "*/*", type, signal, onWait, send = fetch } = {}) {
  const headers = { Accept: accept, ...(type ? { "Content-Type": type } : {}) };
  for (let attempt = 0; ; attempt += 1) {
    const used = key();
    if (used) headers.Authorization = `Bearer ${used}`;
    try {
      return await once(send, path, { method, headers, body, signal });
    } catch (error) {
      if (error.status === 401 && (await askForKey(used))) continue;
      if (error.status === 0) error.retryAfter = PAUSES[attempt];
      const mayRetry = error instanceof Problem && Number.isFinite(error.retryAfter) && error.retryAfter <= LONGEST_WAIT;
      if (!mayRetry || (error.status !== 0 && attempt >= MOST_RETRIES) || (error.status === 0 && !onWait)) throw error;
      onWait?.(error);
      await pause(1000 * error.retryAfter, signal);
    }
  }
}

async function once(send, path, request) {
  let response;
  try {
    response = await send(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer", "Is it running, and is this computer online? Nothing is lost.");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** As fetch, and tells how much has been sent, which fetch cannot. */
function sent(onProgress) {
  return (path, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open(method, path);
      request.responseType = "blob";
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
      request.onload = () => {
        const kept = { "Retry-After": request.getResponseHeader("Retry-After"), "X-Request-ID": request.getResponseHeader("X-Request-ID") };
        const told = Object.entries(kept).filter(([, value]) => value !== null);
        resolve(new Response(request.response, { status: request.status, statusText: request.statusText, headers: told }));
      };
      request.onerror = () => reject(new TypeError("no answer"));
      request.onabort = () => reject(new DOMException("aborted", "AbortError"));
      signal?.addEventListener("abort", () => request.abort(), { once: true });
      request.send(body);
    });
}

async function problemOf(response) {
  // Something in between, such as a proxy, may answer in its own way.
  const body = await response.json().catch(() => ({}));
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  return new Problem(
    response.status,
    TITLES[response.status] ?? "Something went wrong",
    sentence(body.detail ?? `${response.status} ${response.statusText}`),
    body.request_id ?? response.headers.get("X-Request-ID") ?? "",
    Number.isFinite(seconds) ? seconds : null,
  );
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, milliseconds);
    if (signal?.aborted) leave();
    else signal?.addEventListener("abort", leave, { once: true });
  });
}
