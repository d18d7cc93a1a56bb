// Ids that callers made, of a partition's recent rows: what the id window is rebuilt from. Up to two million at once, so
// ClickHouse answers in RowBinary, which is read as it comes, and no row becomes an object.
import { OF_PARTITION } from "#lib/warehouse/positions.ts";
import type { RowTable } from "./stored-topics.ts";

/** `uuid` is the id's 16 bytes as four little-endian words, which are others after the call. */
export type TakeId = (uuid: Uint32Array, apiKey: string, offset: number, appendTimeMs: number) => void;

const UUID_BYTES = 16;
const FIXED_BYTES = UUID_BYTES + 8 + 8;

/** By offset: those in [from, to) with append times from `since` on. */
export function callerIdsSql({ name, isFromCaller, apiKey }: RowTable): string {
  return `SELECT uuid, log_offset, toUnixTimestamp64Milli(log_time) AS ms, toString(${apiKey}) AS k
     FROM ${name}
     WHERE ${OF_PARTITION} AND log_offset >= {from:UInt64} AND log_offset < {to:UInt64} AND ${isFromCaller}
       AND log_time >= fromUnixTimestamp64Milli({since:Int64})
     ORDER BY log_offset`;
}

/** Reads the RowBinary of callerIdsSql, piece by piece: a UUID as two little-endian halves, two integers, a text. */
export function createCallerIdReader(take: TakeId): (piece: Buffer) => void {
  const uuid = new Uint32Array(UUID_BYTES / 4);
  let rest: Buffer = Buffer.alloc(0);
  let key: Buffer = Buffer.alloc(0);
  let apiKey = "";
  return (piece) => {
    const rows = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let at = 0;
    for (let end = endOfRow(rows, 0); end !== undefined; end = endOfRow(rows, at)) {
      const start = startOfText(rows, at + FIXED_BYTES);
      // Most rows have the key of the row before.
      if (rows.compare(key, 0, key.length, start, end) !== 0) {
        key = Buffer.from(rows.subarray(start, end));
        apiKey = key.toString("utf8");
      }
      uuid[0] = reversedWord(rows, at + 4);
      uuid[1] = reversedWord(rows, at);
      uuid[2] = reversedWord(rows, at + 12);
      uuid[3] = reversedWord(rows, at + 8);
      take(uuid, apiKey, readInteger(rows, at + UUID_BYTES), readInteger(rows, at + UUID_BYTES + 8));
      at = end;
    }
    rest = rows.subarray(at);
  };
}

function reversedWord(bytes: Buffer, at: number): number {
  const [a, b, c, d] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] as [number, number, number, number];
  return (a << 24) | (b << 16) | (c << 8) | d;
}

/** Of 64 bits, as a number: offsets and times are below 2^53. */
function readInteger(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

/** Undefined while the row is not all there. Of a text its length comes first, seven bits a byte, the lowest first. */
function endOfRow(rows: Buffer, from: number): number | undefined {
  let length = 0;
  for (let at = from + FIXED_BYTES, shift = 0; at < rows.length; at++, shift += 7) {
    const byte = rows[at] as number;
    length |= (byte & 0x7f) << shift;
    if (byte >= 0x80) continue;
    const end = at + 1 + length;
    return end <= rows.length ? end : undefined;
  }
  return undefined;
}

function startOfText(rows: Buffer, from: number): number {
  let at = from;
  while ((rows[at] as number) >= 0x80) at++;
  return at + 1;
}
