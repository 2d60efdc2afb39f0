// Files in one ZIP archive, stored without compression, since pictures are compressed already (PKWARE's APPNOTE 6.3).

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const UTF8 = 0x0800; // names are UTF-8
const DATE = 0x0021; // 1 January 1980, the earliest there is

export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** The archive of `[{name, bytes}]` as a Blob. Equal names get numbers. */
export function zip(files) {
  const parts = [];
  const directory = [];
  const taken = new Set();
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(unused(name, taken));
    const fields = [20, UTF8, 0, 0, DATE];
    const sizes = [crc32(bytes), bytes.length, bytes.length];
    const head = record(0x04034b50, fields, sizes, [path.length, 0]);
    directory.push(record(0x02014b50, [20, ...fields], sizes, [path.length, 0, 0, 0, 0, 0, 0], offset), path);
    parts.push(head, path, bytes);
    offset += head.length + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(0x06054b50, [0, 0, files.length, files.length], [size, offset], [0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** A signature, 16-bit fields, 32-bit fields, 16-bit fields, and maybe a last 32-bit one. */
function record(signature, before, sizes, after, last = null) {
  const view = new DataView(new ArrayBuffer(4 + 2 * before.length + 4 * sizes.length + 2 * after.length + (last === null ? 0 : 4)));
  let at = 0;
  const put = (value, bytes) => {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  };
  put(signature, 4);
  for (const value of before) put(value, 2);
  for (const value of sizes) put(value, 4);
  for (const value of after) put(value, 2);
  if (last !== null) put(last, 4);
  return new Uint8Array(view.buffer);
}

function unused(name, taken) {
  let free = name;
  for (let number = 2; taken.has(free); number += 1) free = name.replace(/(\.[^.]*)?$/, `-${number}$1`);
  taken.add(free);
  return free;
}
