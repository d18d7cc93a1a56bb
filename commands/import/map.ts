// One row's fields → one event.

import { create } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { isExactNumber } from "#lib/events/json-value.ts";
import { copyTexts, type Fields, joinTexts, writeFields } from "./kept-text.ts";
import type { TimeParser } from "./time.ts";

/**
 * Names of the columns that become more than a property; undefined: the event has none. `properties.time` is the field
 * `time` of the object `properties`, unless there is a column of just that name.
 */
export interface ColumnNames {
  time: string | undefined;
  distinctId: string | undefined;
  value: string | undefined;
  source: string | undefined;
  /** The event's name, where it is not the same for all. */
  eventColumn: string | undefined;
  /** What identifies the event; without it, the file's content and the row. */
  id: string | undefined;
  /** An object whose fields are properties of the event themselves. */
  properties: string | undefined;
}

export type MappedRow = { ok: true; event: Event } | { ok: false; reason: string };

export interface IdOf {
  row(): string;
  column(text: string): string;
}

export interface Mapper {
  map(fields: Fields, ids: IdOf): MappedRow;
  /** Columns that were named but that no row so far has had; a row without a required one is refused. */
  unseenColumns(): { name: string; required: boolean }[];
  /** Rows so far that could be read. */
  rows(): number;
  /** Rows so far without a distinct id, although a column for it was named. */
  withoutDistinctId(): number;
  /** Rows so far whose id a row not far before them had: of all with one id, one event is stored. */
  withRepeatedId(): number;
}

const IDS_REMEMBERED = 200_000;

/** `event` is the name of every event that has none of its own. */
export function createMapper(event: string | undefined, columns: ColumnNames, parseTime: TimeParser): Mapper {
  const unseen = new Set(Object.values(columns).filter((name) => name !== undefined));
  const named = [...unseen];
  let rows = 0;
  let withoutDistinctId = 0;
  let withRepeatedId = 0;
  const givenIds = new Set<string>();
  const remember = (id: string): void => {
    if (givenIds.has(id)) withRepeatedId += 1;
    if (givenIds.size >= IDS_REMEMBERED) givenIds.clear();
    givenIds.add(id);
  };
  const map = (fields: Fields, ids: IdOf): MappedRow => {
    const cell = (name: string | undefined): unknown =>
      name === undefined ? undefined : (fieldAt(fields, name) ?? undefined);
    for (const name of unseen) if (fieldAt(fields, name) !== undefined) unseen.delete(name);

    const name = columns.eventColumn === undefined ? event : textOf(cell(columns.eventColumn)) || event;
    if (name === undefined) return { ok: false, reason: `${columns.eventColumn} is no name of an event` };
    const idText = textOf(cell(columns.id));
    if (idText === undefined) return { ok: false, reason: `${columns.id} is neither text nor a number` };
    const message = create(EventSchema, { id: idText === "" ? ids.row() : ids.column(idText), event: name });
    if (columns.time !== undefined) {
      const time = parseTime(cell(columns.time));
      if (!time.ok) return { ok: false, reason: `${columns.time} ${time.reason}` };
      message.time = create(TimestampSchema, time.instant);
    }
    const distinctId = textOf(cell(columns.distinctId));
    if (distinctId === undefined) return { ok: false, reason: `${columns.distinctId} is neither text nor a number` };
    const source = textOf(cell(columns.source));
    if (source === undefined) return { ok: false, reason: `${columns.source} is neither text nor a number` };
    const value = numberOf(cell(columns.value));
    if (value === "not a number") return { ok: false, reason: `${columns.value} is not a number` };
    message.distinctId = distinctId;
    message.source = source;
    if (value !== undefined) message.value = value;
    const json = writeFields(propertiesOf(fields, named, columns.properties));
    message.propertiesKind = { case: "propertiesJson", value: json };
    if (columns.distinctId !== undefined && distinctId === "") withoutDistinctId += 1;
    if (idText !== "") remember(idText);
    return { ok: true, event: message };
  };
  return {
    unseenColumns: () =>
      [...unseen].map((name) => ({
        name,
        required: name === columns.time || (name === columns.eventColumn && event === undefined),
      })),
    rows: () => rows,
    withoutDistinctId: () => withoutDistinctId,
    withRepeatedId: () => withRepeatedId,
    map(fields, ids) {
      rows += 1;
      try {
        return map(fields, ids);
      } catch (error) {
        // JSON.stringify calls itself for each level, and a row can have more of them than there is stack.
        if (error instanceof RangeError) return { ok: false, reason: "is nested too deeply" };
        throw error;
      }
    },
  };
}

/** What no column was named for, and what the fields of `lifted` are. */
function propertiesOf(fields: Fields, named: readonly string[], lifted: string | undefined): Fields {
  const inner = lifted === undefined ? undefined : fieldAt(fields, lifted);
  const isLifted = lifted !== undefined && isObject(inner);
  const taken = named.filter((name) => name !== lifted || isLifted);
  const rest = withoutPaths(fields, taken);
  if (!isLifted) return rest;
  const below = taken.flatMap((name) => (name.startsWith(`${lifted}.`) ? [name.slice(lifted.length + 1)] : []));
  const lifting = withoutPaths(inner, below);
  return joinTexts(Object.fromEntries([...Object.entries(rest), ...Object.entries(lifting)]), rest, lifting);
}

/** A copy; fromEntries defines "__proto__" as a property of its own, which assignment would not. */
function withoutPaths(fields: Fields, paths: readonly string[]): Fields {
  const entries = Object.entries(fields).filter(([name]) => !paths.includes(name));
  const changed = new Set<string>();
  const copy = Object.fromEntries(
    entries.map(([name, value]): [string, unknown] => {
      const below = paths.flatMap((path) =>
        path.startsWith(`${name}.`) && !Object.hasOwn(fields, path) ? [path.slice(name.length + 1)] : [],
      );
      if (below.length === 0 || !isObject(value)) return [name, value];
      changed.add(name);
      return [name, withoutPaths(value, below)];
    }),
  );
  return copyTexts(copy, fields, changed);
}

/** The field of that name, or the one that a path leads to. */
function fieldAt(fields: Fields, path: string): unknown {
  if (Object.hasOwn(fields, path)) return fields[path];
  for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) {
    const inner = Object.hasOwn(fields, path.slice(0, dot)) ? fields[path.slice(0, dot)] : undefined;
    if (isObject(inner)) return fieldAt(inner, path.slice(dot + 1));
  }
  return undefined;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isExactNumber(value);
}

function textOf(cell: unknown): string | undefined {
  if (cell === undefined) return "";
  if (typeof cell === "string") return cell;
  if (isExactNumber(cell)) return cell.rawJSON;
  return typeof cell === "number" || typeof cell === "boolean" ? String(cell) : undefined;
}

function numberOf(cell: unknown): number | undefined | "not a number" {
  if (cell === undefined) return undefined;
  const text = isExactNumber(cell) ? cell.rawJSON : cell;
  if (typeof text === "string" && text.trim() === "") return undefined;
  const number = typeof text === "number" || typeof text === "string" ? Number(text) : Number.NaN;
  return Number.isFinite(number) ? number : "not a number";
}
