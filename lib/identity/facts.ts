// What an event says about who is who: facts, extracted from the event alone. Nothing is looked up, so that the set of
// facts does not depend on order, batches or replays. docs/identity.md has the rules.

/** When something was said: event time, and the event's id as UUID text to decide between equal times. */
export interface Moment {
  timeUs: number;
  eventId: string;
}

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
  properties: PropertyFact[];
  /** A merge that only a trusted caller may ask for; no fact. */
  isRefused: boolean;
}

export interface FactSource extends Moment {
  event: string;
  distinctId: string;
  /** The event's properties, as readProperties returns them. */
  properties: Record<string, unknown>;
  trusted: boolean;
}

const NO_FACTS: IdentityFacts = { edge: undefined, properties: [], isRefused: false };

/** Names of the events that say something about identity. */
export const IDENTITY_EVENTS: ReadonlySet<string> = new Set([
  "$identify",
  "$set",
  "$create_alias",
  "$merge_dangerously",
]);

/** Facts of one event; none for other names, for a blank distinct id and for a merge that is not trusted. */
export function factsOf(source: FactSource): IdentityFacts {
  if (isBlank(source.distinctId)) return NO_FACTS;
  switch (source.event) {
    case "$identify": {
      const other = firstText(source.properties, ["$anon_distinct_id", "anon_distinct_id"]);
      const joins = other === source.distinctId ? "" : other;
      return { ...NO_FACTS, edge: edgeOf(source, "identify", joins), properties: operationsOf(source) };
    }
    case "$set":
      return { ...NO_FACTS, properties: operationsOf(source) };
    case "$create_alias":
      return joinOf(source, "alias");
    case "$merge_dangerously":
      return source.trusted ? joinOf(source, "merge") : { ...NO_FACTS, isRefused: true };
    default:
      return NO_FACTS;
  }
}

function joinOf(source: FactSource, kind: EdgeKind): IdentityFacts {
  const other = firstText(source.properties, ["alias"]);
  if (other === "" || other === source.distinctId) return NO_FACTS;
  return { ...NO_FACTS, edge: edgeOf(source, kind, other) };
}

function edgeOf({ distinctId, trusted, timeUs, eventId }: FactSource, kind: EdgeKind, other: string): Edge {
  return { kind, id: distinctId, other, trusted, timeUs, eventId };
}

function operationsOf({ properties, distinctId, timeUs, eventId }: FactSource): PropertyFact[] {
  const facts: PropertyFact[] = [];
  const add = (operation: PropertyOperation, key: string, value: string) =>
    facts.push({ distinctId, key: key.toWellFormed(), operation, value, timeUs, eventId });
  for (const operation of ["set", "set_once"] as const) {
    for (const [key, value] of Object.entries(objectOf(properties[`$${operation}`]))) {
      add(operation, key, JSON.stringify(value));
    }
  }
  for (const key of keysOf(properties.$unset)) add("unset", key, "");
  return facts;
}

function objectOf(value: unknown): Record<string, unknown> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : {};
}

/** `$unset` is a list of keys, or an object whose values do not matter. */
function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.filter((key) => typeof key === "string");
  return Object.keys(objectOf(value));
}

function firstText(properties: Record<string, unknown>, names: readonly string[]): string {
  for (const name of names) {
    const value = properties[name];
    // As UTF-8 would have it: ids are hashed and stored as that.
    if (typeof value === "string" && !isBlank(value)) return value.toWellFormed();
  }
  return "";
}

function isBlank(text: string): boolean {
  return text.trim() === "";
}

type Reviver = (key: string, value: unknown, context: { source?: string }) => unknown;
// Not in TypeScript's library yet; Node has both since version 22.
const { parse, rawJSON } = JSON as unknown as {
  parse(text: string, reviver: Reviver): unknown;
  rawJSON(text: string): unknown;
};

/**
 * Properties from their JSON text, with numbers that JavaScript would change (12345678901234567890, 1.0) kept as they are
 * written. Throws SyntaxError for text that is no JSON.
 */
export function readProperties(json: string): Record<string, unknown> {
  return objectOf(
    parse(json, (_key, value, { source }) =>
      typeof value === "number" && source !== undefined && String(value) !== source ? rawJSON(source) : value,
    ),
  );
}

/** Earlier first, then the smaller event id. */
export function compareMoments(a: Moment, b: Moment): number {
  return a.timeUs - b.timeUs || compareTexts(a.eventId, b.eventId);
}

/** Any total order of texts will do where a tie has no meaning; this one needs no locale. */
export function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
