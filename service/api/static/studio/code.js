// The same as the page does, for a terminal and for Python with httpx.

import * as api from "./api.js";
import { key } from "./key.js";

// What is copied goes to friends and into repositories, so it names the variable that holds the key.
const VARIABLE = "FACET_KEY";
const EXTENSIONS = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };

/** A picture's name after its edit; the service keeps these formats and makes PNG of others. */
export function editedName(name, mediaType) {
  return `${name.replace(/\.[^.]*$/, "")}-edited.${EXTENSIONS[mediaType] ?? "png"}`;
}

/**
 * A shell command. `fields` are the parameters of the edit, `generated` those of the face if it was generated, and
 * `from` is where the picture can be fetched, if it is an example of this page.
 */
export function curl({ photo, fields, generated, from }) {
  const commands = [];
  const authorization = key() ? [`-H "Authorization: Bearer $${VARIABLE}"`] : [];
  if (generated) {
    commands.push([
      `curl -fsS -o ${shell(photo.name)} ${shell(api.address("v1/generate"))}`,
      ...authorization,
      "-H 'Content-Type: application/json' -H 'Accept: image/png'",
      `-d ${shell(JSON.stringify(generated))}`,
    ]);
  }
  if (from) commands.push([`curl -fsS -o ${shell(photo.name)} ${shell(from)}`]);
  commands.push([
    `curl -fsS -o ${shell(editedName(photo.name, photo.file.type))} ${shell(api.address("v1/edit"))}`,
    ...authorization,
    `-F ${shell(`image=@"${photo.name.replace(/[\\"]/g, "\\$&")}"`)}`,
    ...Object.entries(fields).map(([name, value]) => `-F ${shell(`${name}=${text(value)}`)}`),
  ]);
  return commands.map((parts) => parts.join(" \\\n  ")).join(" &&\n");
}

/** A Python script of the same. */
export function python({ photo, fields, generated, from }) {
  const lines = ["import json", ...(key() ? ["import os"] : []), "from pathlib import Path", "", "import httpx", ""];
  if (key()) lines.push(`headers = {"Authorization": f"Bearer {os.environ['${VARIABLE}']}"}`);
  const headers = key() ? ", headers=headers" : "";
  lines.push(`with httpx.Client(base_url=${literal(api.address("."))}, timeout=60${headers}) as facet:`);
  if (generated) {
    lines.push(
      `    response = facet.post("v1/generate", json=${literal(generated)}, headers={"Accept": "image/png"})`,
      "    response.raise_for_status()",
      "    picture = response.content",
    );
  } else if (from) {
    lines.push(`    picture = facet.get(${literal(from)}).raise_for_status().content`);
  } else {
    lines.push(`    picture = Path(${literal(photo.name)}).read_bytes()`);
  }
  lines.push(
    "    response = facet.post(",
    '        "v1/edit",',
    '        files={"image": picture},',
    "        data={",
    ...Object.entries(fields).map(([name, value]) => `            ${literal(name)}: ${field(value)},`),
    "        },",
    "    )",
    "    response.raise_for_status()",
    `Path(${literal(editedName(photo.name, photo.file.type))}).write_bytes(response.content)`,
    "",
  );
  return lines.join("\n");
}

const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
const shell = (words) => `'${words.replaceAll("'", `'\\''`)}'`;
const field = (value) => (typeof value === "object" ? `json.dumps(${literal(value)})` : typeof value === "boolean" ? `"${value}"` : literal(value));

/** JSON with spaces, which is Python too, as there is neither null nor true in what is written here. */
function literal(value) {
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`).join(", ")}}`;
}
