// Rows of identity_edges, identity_ids and identity_properties, and of the tables of groups, JSONCompactEachRow, one line each.
import { personIdOf } from "#lib/events/ids.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { IdentityFacts, PropertyFact } from "./facts.ts";

/** In the order in which rows are stored. */
export const IDENTITY_TABLES = [
  ...(["group_keys", "group_properties"] as const),
  ...(["identity_ids", "identity_properties", "identity_edges"] as const),
];
type IdentityTable = (typeof IDENTITY_TABLES)[number];

export const IDENTITY_COLUMNS: Readonly<Record<IdentityTable, readonly string[]>> = {
  identity_edges: [
    ...["own_person_id", "id", "other", "kind", "is_trusted", "time_us", "event_id"],
    ...["log_epoch", "log_topic", "log_partition", "log_offset"],
  ],
  identity_ids: ["own_person_id", "distinct_id", "is_identified", "has_profile", "first_us", "last_us"],
  identity_properties: ["own_person_id", "key", "last_write", "first_once"],
  group_keys: ["group_type", "group_key", "first_us", "last_us"],
  group_properties: ["group_type", "group_key", "key", "last_write"],
};

type IdentityRows = Record<IdentityTable, string[]>;

export function noIdentityRows(): IdentityRows {
  return { identity_edges: [], identity_ids: [], identity_properties: [], group_keys: [], group_properties: [] };
}

/** Appends the rows of one event's facts; returns their length in characters. */
export function addIdentityRows(
  rows: IdentityRows,
  { edge, properties, saidUs, groups = [] }: IdentityFacts,
  origin: RowOrigin,
  offset: number,
): number {
  let characters = 0;
  const add = (table: IdentityTable, row: string) => {
    rows[table].push(row);
    characters += row.length;
  };
  if (edge) {
    const { id, other, kind, trusted, timeUs, eventId } = edge;
    // The nil UUID for no other id.
    const [own, others] = [personIdOf(id), personIdOf(other)];
    const fields = [own, others, kind, trusted, timeUs, eventId, origin.epoch, origin.topic, origin.partition, offset];
    const isIdentified = kind === "identify" ? 1 : 0;
    add("identity_edges", line(own, ...fields));
    const us = saidUs ?? timeUs;
    add("identity_ids", line(own, id, isIdentified, isIdentified, us, us));
    if (other !== "") {
      add("identity_edges", line(others, ...fields));
      add("identity_ids", line(others, other, 0, 0, us, us));
    }
  }
  const [first] = properties;
  if (first) {
    const own = personIdOf(first.distinctId);
    add("identity_ids", line(own, first.distinctId, 0, 1, first.timeUs, first.timeUs));
    for (const fact of properties) add("identity_properties", propertyRow(own, fact));
  }
  for (const { type, groupKey, timeUs, eventId, properties: set } of groups) {
    add("group_keys", line(type, groupKey, timeUs, timeUs));
    for (const [key, value] of set)
      add("group_properties", line(type, groupKey, key, `${momentOf(timeUs, eventId)}0${value}`));
  }
  return characters;
}

function momentOf(timeUs: number, eventId: string): string {
  return String(timeUs).padStart(TIME_DIGITS, "0") + eventId;
}

const TIME_DIGITS = 17;
const NO_WRITE = "";
/** After every digit. */
const NO_ONCE = "~";

/** States of one operation, as migrations/0002_identity.sql has them; the other of the two is its neutral one. */
function propertyRow(own: string, { key, operation, value, timeUs, eventId }: PropertyFact): string {
  const moment = momentOf(timeUs, eventId);
  if (operation === "set_once") return line(own, key, NO_WRITE, moment + value);
  return line(own, key, `${moment}${operation === "unset" ? 1 : 0}${value}`, NO_ONCE);
}

function line(...values: unknown[]): string {
  return `${JSON.stringify(values)}\n`;
}
