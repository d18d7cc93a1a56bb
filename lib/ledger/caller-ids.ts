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
  /** The text of the row before with its length, as most rows have it again. */
  let key: Buffer = Buffer.alloc(0);
  let apiKey = "";
  return (piece) => {
    const rows = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    const view = new DataView(rows.buffer, rows.byteOffset, rows.length);
    let at = 0;
    for (let end = endOfRow(rows, 0); end !== undefined; end = endOfRow(rows, at)) {
      if (!beginsWith(rows, at + FIXED_BYTES, key)) {
        key = Buffer.from(rows.subarray(at + FIXED_BYTES, end));
        apiKey = rows.toString("utf8", startOfText(rows, at + FIXED_BYTES), end);
      }
      // Each half is reversed.
      uuid[0] = view.getUint32(at + 4);
      uuid[1] = view.getUint32(at);
      uuid[2] = view.getUint32(at + 12);
      uuid[3] = view.getUint32(at + 8);
      take(uuid, apiKey, readInteger(view, at + UUID_BYTES), readInteger(view, at + UUID_BYTES + 8));
      at = end;
    }
    rest = rows.subarray(at);
  };
}

/** Of 64 bits, as a number: offsets and times are below 2^53. */
function readInteger(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function beginsWith(rows: Buffer, from: number, text: Buffer): boolean {
  const { length } = text;
  if (length === 0 || from + length > rows.length) return false;
  for (let n = 0; n < length; n++) if (rows[from + n] !== text[n]) return false;
  return true;
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
