// Fields of requests about events, checked; and texts for answers, cut to what a caller can use.
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { TimeRange } from "#gen/millrace/stats/v1/event_queries_pb.ts";
import type { Binder } from "../queries/sql.ts";
import { invalid } from "../rpc/errors.ts";
import { readTime } from "../rpc/request-fields.ts";

export interface Range {
  fromMs: number;
  toMs: number;
}

/** What a page token says: the values of the last row, in the order of the sort key. */
export type Cursor = readonly (string | number)[];

const DAY_MS = 86_400_000;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TEXT_CHARS_MAX = 1_000;
const TOKEN_CHARS_MAX = 1_000;

export function readRange(range: TimeRange | undefined, nowMs: number): Range {
  const toMs = range?.to === undefined ? nowMs : readTime("range.to", range.to);
  const fromMs = range?.from === undefined ? Math.max(0, toMs - DAY_MS) : readTime("range.from", range.from);
  if (fromMs >= toMs) throw invalid("range.from: is not before range.to, which is now if it is absent");
  return { fromMs, toMs };
}

export function readLimit(field: string, given: number, { preset, max }: { preset: number; max: number }): number {
  if (given === 0) return preset;
  if (given < 1 || given > max)
    throw invalid(`${field}: ${given} is out of range; send 1 to ${max}, or 0 for ${preset}`);
  return given;
}

export function readUuid(field: string, text: string): string {
  if (!UUID.test(text)) throw invalid(`${field}: is not a UUID`);
  return text.toLowerCase();
}

export function tokenOf(cursor: Cursor): string {
  return Buffer.from(JSON.stringify(cursor)).toString("base64url");
}

/** Undefined for the first page. */
export function readToken(token: string, length: number): Cursor | undefined {
  if (token === "") return undefined;
  const cursor = token.length > TOKEN_CHARS_MAX ? undefined : parsed(Buffer.from(token, "base64url").toString());
  const isCursor =
    Array.isArray(cursor) &&
    cursor.length === length &&
    cursor.every((part) => typeof part === "string" || Number.isSafeInteger(part));
  if (!isCursor)
    throw invalid("page_token: is not one that this method has given; send next_page_token of the page before");
  return cursor as Cursor;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No JSON: the token is invalid.
    return undefined;
  }
}

/** SQL of the text, cut. */
export function cutSql(column: string, chars = TEXT_CHARS_MAX): string {
  return `if(lengthUTF8(${column}) > ${chars}, concat(leftUTF8(${column}, ${chars - 1}), '…'), toString(${column}))`;
}

/** "AND …" conditions on event time. */
export function rangeSql({ fromMs, toMs }: Range, bind: Binder): string {
  const at = (ms: number) => `fromUnixTimestamp64Milli(${bind.integer(ms)}, 'UTC')`;
  return `timestamp >= ${at(fromMs)} AND timestamp < ${at(toMs)} AND is_deleted = 0`;
}

export function eventSql(event: string, bind: Binder): string {
  return event === "" ? "" : `AND events_raw.event = ${bind.text(event)}`;
}

export function timeOfUs(us: string): Timestamp {
  const value = BigInt(us);
  const seconds = value / 1_000_000n - (value % 1_000_000n < 0n ? 1n : 0n);
  return { ...timestampFromMs(0), seconds, nanos: Number(value - seconds * 1_000_000n) * 1000 };
}
