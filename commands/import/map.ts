// One row's fields → one event.

import { create } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { type Fields, isExactNumber } from "./parse.ts";
import type { TimeParser } from "./time.ts";

/** Names of the columns that become more than a property; undefined: the event has none. */
export interface ColumnNames {
  time: string | undefined;
  distinctId: string | undefined;
  value: string | undefined;
  source: string | undefined;
}

export type MappedRow = { ok: true; event: Event } | { ok: false; reason: string };

export interface Mapper {
  map(fields: Fields, id: string): MappedRow;
  /** Columns that were named but that no row so far has had; a row without a required one is refused. */
  unseenColumns(): { name: string; required: boolean }[];
}

export function createMapper(event: string, columns: ColumnNames, parseTime: TimeParser): Mapper {
  const unseen = new Set(Object.values(columns).filter((name) => name !== undefined));
  const named = new Set(unseen);
  return {
    unseenColumns: () => [...unseen].map((name) => ({ name, required: name === columns.time })),
    map(fields, id) {
      const cell = (name: string | undefined): unknown =>
        name === undefined ? undefined : (fields[name] ?? undefined);
      for (const name of unseen) if (Object.hasOwn(fields, name)) unseen.delete(name);

      const message = create(EventSchema, { id, event });
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
      const rest = Object.entries(fields).filter(([name]) => !named.has(name));
      // fromEntries defines "__proto__" as a property of its own, which assignment would not.
      const json = JSON.stringify(Object.fromEntries(rest));
      message.propertiesKind = { case: "propertiesJson", value: json };
      return { ok: true, event: message };
    },
  };
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
