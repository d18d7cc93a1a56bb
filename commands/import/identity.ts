// Who a row is. The id of a row is a function of the file's content, the event's name and the row's number, so the same
// row has the same id in every run, from any directory, and a re-run doubles nothing.

import { createHash, hash } from "node:crypto";

export interface FileIdentity {
  sha256: string;
  bytes: number;
}

/** Reads all of `chunks` once. */
export async function identify(chunks: AsyncIterable<Buffer>): Promise<FileIdentity> {
  const digest = createHash("sha256");
  let bytes = 0;
  for await (const chunk of chunks) {
    digest.update(chunk);
    bytes += chunk.length;
  }
  return { sha256: digest.digest("hex"), bytes };
}

// Fixed for ever: another value would give every row ever imported a new id.
const namespace = Buffer.from("6f1d7c1a3f0e5c0e9a5b1e6d2c84b7f3", "hex");

/** UUIDv5 of one row. With `as`, another one: that of the same row as another event. */
export function rowId(file: FileIdentity, event: string, rowNumber: number, as?: string): string {
  return uuidOf(`${file.sha256}:${file.bytes}:${rowNumber}:${event}${as === undefined ? "" : `:${as}`}`);
}

/** UUIDv5 of an event whose row has an id: the same from any file. */
export function givenId(id: string, as?: string): string {
  return uuidOf(`id:${id}${as === undefined ? "" : `:${as}`}`);
}

function uuidOf(text: string): string {
  const name = Buffer.from(text);
  const bytes = hash("sha1", Buffer.concat([namespace, name]), "buffer");
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x50, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString("hex", 0, 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
