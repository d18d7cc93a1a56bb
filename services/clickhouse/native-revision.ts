// The format Native as a client of a protocol version expects it. The engine here writes the plain form; from version 1 on
// a server puts an account of the block before each block, from 54,454 on a byte about its serialization before each
// column. clickhouse-go, and Grafana with it, reads nothing else.
import { createTypeReader, type NativeCursor, readVarint } from "./native-types.ts";

const WITH_SERIALIZATION = 54_454;
/** Field 1: no overflow rows; field 2: no bucket; end of fields. */
const BLOCK_INFO = Buffer.from([1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0]);
const DEFAULT_SERIALIZATION = Buffer.from([0]);

/** Throws NOT_IMPLEMENTED for a column whose end cannot be found. */
export function atProtocolVersion(native: Buffer, version: number): Buffer {
  const parts: Buffer[] = [];
  const skipColumn = createTypeReader();
  const cursor: NativeCursor = { bytes: native, at: 0 };
  const copyFrom = (start: number) => parts.push(native.subarray(start, cursor.at));
  while (cursor.at < native.length) {
    parts.push(BLOCK_INFO);
    const head = cursor.at;
    const columns = readVarint(cursor);
    const rows = readVarint(cursor);
    copyFrom(head);
    for (let column = 0; column < columns; column++) {
      const start = cursor.at;
      readText(cursor);
      const type = readText(cursor);
      copyFrom(start);
      if (version >= WITH_SERIALIZATION) parts.push(DEFAULT_SERIALIZATION);
      const data = cursor.at;
      if (rows > 0) skipColumn(type, rows, cursor);
      copyFrom(data);
    }
  }
  return Buffer.concat(parts);
}

function readText(cursor: NativeCursor): string {
  const length = readVarint(cursor);
  cursor.at += length;
  return cursor.bytes.toString("utf8", cursor.at - length, cursor.at);
}
