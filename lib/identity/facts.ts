// What an event says about who is who: facts, extracted from the event alone. Nothing is looked up, so that the set of
// facts does not depend on order, batches or replays. docs/identity.md has the rules.
import { JsonFault } from "#lib/events/json-fault.ts";
import { createJsonScanner } from "#lib/events/json-scanner.ts";
import { valueAt } from "#lib/events/json-value.ts";
import { GROUP_EVENT, type GroupFact, groupsOf } from "./groups.ts";
import { isNoId } from "./no-id.ts";
import { idText, isAbsent, isObject, type Moment, type VoidReason } from "./said.ts";

export type EdgeKind = "identify" | "alias" | "merge";

/**
 * `id` and `other` are one person, if resolve.ts lets them; `other` is the id that joins. "identify" also says that `id`
 * is identified, and may do so with `other` empty. Ids are distinct ids here, and own person ids in the tables.
 */
export interface Edge extends Moment {
  kind: EdgeKind;
  id: string;
  other: string;
  /** The request carried a secret key and no Origin. */
  trusted: boolean;
}

export type PropertyOperation = "set" | "set_once" | "unset";

export interface PropertyFact extends Moment {
  distinctId: string;
  key: string;
  operation: PropertyOperation;
  /** JSON text; empty for unset. */
  value: string;
}

export interface IdentityFacts {
  edge: Edge | undefined;
  /** Event time of the edge, where it counts from a later moment. */
  saidUs?: number;
  properties: PropertyFact[];
  /** Absent where there are none. */
  groups?: readonly GroupFact[];
  /** A merge that only a trusted caller may ask for; no fact. */
  isRefused: boolean;
  /** Why something that was said is no fact; absent where all of it is. */
  voids?: readonly VoidReason[];
}

export interface FactSource extends Moment {
  event: string;
  distinctId: string;
  /** The event's properties, as readProperties returns them. */
  properties: Record<string, unknown>;
  trusted: boolean;
  /** When the event arrived; absent where nobody asks for its links. */
  receivedUs?: number;
}

/** Clients keep what they could not send for a few days. */
const BACKDATED_US_MAX = 7 * 86_400_000_000;

const NO_FACTS: IdentityFacts = { edge: undefined, properties: [], isRefused: false };

/** Names of the events that may make a link, or identify. Properties of a person may be in any event. */
export const IDENTITY_EVENTS: ReadonlySet<string> = new Set([
  "$identify",
  "$set",
  "$create_alias",
  "$merge_dangerously",
]);

/**
 * Facts of one event. About people there are none for a blank distinct id and in an event about a group, and no link for a
 * merge that is not trusted.
 */
export function factsOf(source: FactSource): IdentityFacts {
  const voids: VoidReason[] = [];
  const groups = groupsOf(source, voids);
  const people = source.event === GROUP_EVENT || isBlank(source.distinctId) ? NO_FACTS : peopleOf(source, voids);
  return { ...people, ...(groups.length > 0 && { groups }), ...(voids.length > 0 && { voids }) };
}

function peopleOf(source: FactSource, voids: VoidReason[]): IdentityFacts {
  const properties = operationsOf(source, voids);
  const isRefused = source.event === "$merge_dangerously" && !source.trusted;
  const edge = isRefused ? undefined : edgeIn(source, voids);
  const isMoved = edge !== undefined && edge.timeUs !== source.timeUs;
  return { edge, properties, isRefused, ...(isMoved && { saidUs: source.timeUs }) };
}

function edgeIn(source: FactSource, voids: VoidReason[]): Edge | undefined {
  if (source.event === "$identify") return identifyOf(source, voids);
  if (source.event === "$create_alias") return joinOf(source, "alias", voids);
  return source.event === "$merge_dangerously" ? joinOf(source, "merge", voids) : undefined;
}

/** An id that is no id neither is identified nor takes another to itself. */
function identifyOf(source: FactSource, voids: VoidReason[]): Edge | undefined {
  const other = linkOf(source.properties, ["$anon_distinct_id", "anon_distinct_id"], voids);
  if (isNoId(source.distinctId)) {
    voids.push("no_id");
    return undefined;
  }
  if (isNoId(other)) voids.push("no_id");
  return edgeOf(source, "identify", other === source.distinctId || isNoId(other) ? "" : other);
}

function joinOf(source: FactSource, kind: EdgeKind, voids: VoidReason[]): Edge | undefined {
  const other = linkOf(source.properties, ["alias"], voids);
  if (other === "" || other === source.distinctId) return undefined;
  if (!isNoId(other) && !isNoId(source.distinctId)) return edgeOf(source, kind, other);
  voids.push("no_id");
  return undefined;
}

/** Of several who claim an id the earliest has it, so a caller whom everyone can be must not choose how early it was. */
function edgeOf(source: FactSource, kind: EdgeKind, other: string): Edge {
  const { distinctId, trusted, eventId, receivedUs = source.timeUs } = source;
  const timeUs = trusted ? source.timeUs : Math.max(source.timeUs, receivedUs - BACKDATED_US_MAX);
  return { kind, id: distinctId, other, trusted, timeUs, eventId };
}

function operationsOf({ properties, distinctId, timeUs, eventId }: FactSource, voids: VoidReason[]): PropertyFact[] {
  const facts: PropertyFact[] = [];
  const add = (operation: PropertyOperation, key: string, value: string) =>
    facts.push({ distinctId, key: key.toWellFormed(), operation, value, timeUs, eventId });
  for (const operation of ["set", "set_once"] as const) {
    const given = properties[`$${operation}`];
    if (isAbsent(given)) continue;
    if (!isObject(given)) voids.push("wrong_type");
    else for (const [key, value] of Object.entries(given)) add(operation, key, JSON.stringify(value));
  }
  for (const key of unsetKeys(properties.$unset, voids)) add("unset", key, "");
  return facts;
}

/** `$unset` is a key, a list of keys, or an object whose values do not matter. */
function unsetKeys(value: unknown, voids: VoidReason[]): string[] {
  if (isAbsent(value)) return [];
  if (isObject(value)) return Object.keys(value);
  const given = Array.isArray(value) ? (value as unknown[]) : [value];
  const keys = given.map(idText);
  if (keys.includes(undefined)) voids.push("wrong_type");
  return keys.filter((key) => key !== undefined);
}

/** First of the names that has an id; "" when none has. */
function linkOf(properties: Record<string, unknown>, names: readonly string[], voids: VoidReason[]): string {
  let isWrong = false;
  for (const name of names) {
    const value = properties[name];
    if (isAbsent(value)) continue;
    const text = idText(value);
    if (text === undefined) isWrong = true;
    // As UTF-8 would have it: ids are hashed and stored as that.
    else if (!isBlank(text)) return text.toWellFormed();
  }
  if (isWrong) voids.push("wrong_type");
  return "";
}

function isBlank(text: string): boolean {
  return text.trim() === "";
}

const cursor = createJsonScanner();

/**
 * Properties from their JSON text, with numbers that JavaScript would change (12345678901234567890, 1.0) kept as they are
 * written. Undefined for what is no JSON object: records of producers that are no gateway may have anything.
 */
export function readProperties(json: Uint8Array): Record<string, unknown> | undefined {
  try {
    cursor.open(json);
    const value = valueAt(cursor);
    cursor.close();
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof JsonFault || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Earlier first, then the smaller event id. */
export function compareMoments(a: Moment, b: Moment): number {
  return a.timeUs - b.timeUs || compareTexts(a.eventId, b.eventId);
}

/** Any total order of texts will do where a tie has no meaning; this one needs no locale. */
export function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
