// Which events a tail shows: by name, distinct id and properties.
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { isExactNumber } from "#lib/events/json-value.ts";
import { readProperties } from "#lib/identity/facts.ts";

export interface TailFilter {
  /** Empty: every name. */
  events: ReadonlySet<string>;
  /** Empty: everybody. */
  distinctIds: ReadonlySet<string>;
  /** All of them must hold. */
  where: readonly { key: string; values: ReadonlySet<string> }[];
  eventsPerSecond: number;
  recent: number;
}

export function matchesTail({ events, distinctIds, where }: TailFilter, record: EventRecord): boolean {
  if (events.size > 0 && !events.has(record.event)) return false;
  if (distinctIds.size > 0 && !distinctIds.has(record.distinctId)) return false;
  if (where.length === 0) return true;
  const properties = readProperties(record.propertiesJson);
  // Of a foreign producer; the consumer decides about it.
  if (properties === undefined) return false;
  return where.every(({ key, values }) => values.has(textOf(valueAt(properties, key))));
}

/** A property's own name wins over a path: names may have dots in them. */
function valueAt(properties: unknown, key: string): unknown {
  const own = memberOf(properties, key);
  return own === undefined ? key.split(".").reduce(memberOf, properties) : own;
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || isExactNumber(value) || !Object.hasOwn(value, name))
    return undefined;
  return (value as Record<string, unknown>)[name];
}

/** Numbers in the digits in which they were sent. */
function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value);
}
