// The service's REST interface. Paths are relative, so that the page also works behind a path prefix.

import { askForKey, key } from "./key.js";

const MOST_RETRIES = 5;
const LONGEST_WAIT = 60; // seconds; a key may have to wait far longer, and its user wants to know
const TITLES = {
  400: "This file is broken",
  401: "This service asks for a key",
  403: "That is not allowed",
  404: "That is not there",
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

export const models = async () => (await call("GET", "v1/models")).json();

/** A model, with the attributes that may be asked for. */
export async function model(name) {
  const told = await (await call("GET", `v1/models/${encodeURIComponent(name)}`)).json();
  return { ...told, attributes: told.attributes.filter((attribute) => attribute.enabled) };
}

/** The faces of a picture, largest first. */
export const encode = async (picture, fields, options = {}) =>
  (await call("POST", "v1/encode", { ...options, body: form(picture, fields) })).json();

/** The edited picture. `accept` is a media type, or anything: then the picture keeps its format. */
export const edit = (picture, fields, options = {}) => drawn("v1/edit", form(picture, fields), options);

/** One attribute changed gradually, as one labelled picture. */
export const sweep = (picture, fields, options = {}) => drawn("v1/sweep", form(picture, fields), options);

/** A face that does not exist. */
export const generate = (fields, options = {}) =>
  drawn("v1/generate", JSON.stringify(fields), { accept: "image/png", json: true, ...options });

async function drawn(path, body, options) {
  const response = await call("POST", path, { ...options, body });
  return response.blob();
}

function form(picture, fields) {
  const body = new FormData();
  body.append("image", picture, "picture");
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    body.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  return body;
}

// A full queue is no error yet: the service says when there should be room, and the request is sent again then.
async function call(method, path, { body, accept = "*/*", json = false, signal, onWait } = {}) {
  const headers = { Accept: accept, ...(json ? { "Content-Type": "application/json" } : {}) };
  for (let attempt = 0; ; attempt += 1) {
    const used = key();
    if (used) headers.Authorization = `Bearer ${used}`;
    try {
      return await once(path, { method, headers, body, signal });
    } catch (error) {
      if (error.status === 401 && (await askForKey(used))) continue;
      const mayRetry = error instanceof Problem && error.retryAfter !== null && error.retryAfter <= LONGEST_WAIT;
      if (!mayRetry || attempt >= MOST_RETRIES) throw error;
      onWait?.(error);
      await pause(1000 * error.retryAfter, signal);
    }
  }
}

async function once(path, request) {
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer", "Is it running, and is this computer online? Nothing is lost.");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
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
