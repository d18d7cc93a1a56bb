// Who is who: what the tables show against what the acknowledged events say, resolved in memory.
import { setTimeout as sleep } from "node:timers/promises";
import { personIdOf } from "#lib/events/ids.ts";
import { compareTexts, factsOf, type IdentityFacts, readProperties } from "#lib/identity/facts.ts";
import { type Person, peopleOf } from "#lib/identity/people.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { patience } from "../test/kit/patience.ts";
import { API_KEYS, type LoadEvent } from "./event-source.ts";

export interface Testimony {
  /** Acknowledged events that may say something about people. */
  told: readonly LoadEvent[];
  /** Distinct ids of all acknowledged events. */
  distinctIds: ReadonlySet<string>;
}

/** A distinct id under a person. */
export interface Belonging {
  person: string;
  distinctId: string;
}

/** A row of `persons`. */
export interface Profile {
  id: string;
  /** After which the person is named. */
  distinctId: string;
  isIdentified: boolean;
  /** JSON text by key. */
  properties: ReadonlyMap<string, string>;
}

/** Rows as the views have them. */
export interface ShownPeople {
  /** `person_distinct_ids`. */
  mapped: readonly Belonging[];
  /** `events`, each pair once. */
  inEvents: readonly Belonging[];
  profiles: readonly Profile[];
}

export interface PeopleComparison {
  /** There should be. */
  people: number;
  /** A text for each person that is not as it should be, or should not be. */
  wrong: string[];
}

/** Pure. A person that was split or joined wrongly counts for each person that is wrong by it. */
export function comparePeople({ told, distinctIds }: Testimony, shown: ShownPeople): PeopleComparison {
  const facts = told.map(factsOfEvent);
  const expected = peopleOf(facts, [...distinctIds]);
  const profiled = new Set(facts.flatMap(profiledIds));
  const mapped = Map.groupBy(shown.mapped, ({ person }) => person);
  const inEvents = Map.groupBy(shown.inEvents, ({ person }) => person);
  const profiles = Map.groupBy(shown.profiles, ({ id }) => id);
  const wrong: string[] = [];
  for (const id of new Set([...expected.keys(), ...mapped.keys(), ...inEvents.keys(), ...profiles.keys()])) {
    const person = expected.get(id);
    const ids = person?.distinctIds ?? [];
    const sent = ids.filter((one) => distinctIds.has(one));
    const hasProfile = ids.some((one) => profiled.has(one));
    const faults = [
      idsFault("person_distinct_ids", ids, mapped.get(id)),
      idsFault("events", sent, inEvents.get(id)),
      profileFault(hasProfile ? person : undefined, profiles.get(id)),
    ].filter((fault) => fault !== undefined);
    if (faults.length > 0) wrong.push(`${id} (${ids.join(", ") || "nobody"}): ${faults.join("; ")}`);
  }
  return { people: expected.size, wrong };
}

function factsOfEvent({ id, event, distinctId, properties, timeMs, apiKey }: LoadEvent): IdentityFacts {
  return factsOf({
    ...{ event, distinctId, timeUs: timeMs * 1000, eventId: id, trusted: apiKey === API_KEYS.secret },
    properties: readProperties(Buffer.from(JSON.stringify(properties))) ?? {},
  });
}

/** Ids that make their person one with a profile: identified, or properties were said of it, if only to unset them. */
function profiledIds({ edge, properties }: IdentityFacts): string[] {
  const identified = edge?.kind === "identify" ? [edge.id] : [];
  return [...identified, ...properties.map(({ distinctId }) => distinctId)];
}

function idsFault(where: string, expected: readonly string[], shown: readonly Belonging[] = []): string | undefined {
  const ids = shown.map(({ distinctId }) => distinctId).sort();
  if (ids.join("\n") === expected.toSorted().join("\n")) return undefined;
  return `in ${where} it has ${ids.join(", ") || "no ids"}`;
}

/** `person`: undefined when it should have no profile. */
function profileFault(person: Person | undefined, rows: readonly Profile[] = []): string | undefined {
  if (!person) return rows.length === 0 ? undefined : "has a row in persons and should have none";
  const [profile] = rows;
  if (!profile || rows.length > 1) return `has ${rows.length} rows in persons`;
  if (personIdOf(profile.distinctId) !== person.id) return `is named after ${profile.distinctId}`;
  if (profile.isIdentified !== person.isIdentified) return `is_identified is ${profile.isIdentified}`;
  const [is, should] = [textOf(profile.properties), textOf(person.properties)];
  return is === should ? undefined : `properties are {${is}} and should be {${should}}`;
}

function textOf(properties: ReadonlyMap<string, string>): string {
  const sorted = [...properties].sort(([a], [b]) => compareTexts(a, b));
  return sorted.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",");
}

export async function readPeople(warehouse: Warehouse): Promise<ShownPeople> {
  const mapped = await warehouse.query<Belonging>(
    "SELECT toString(person_id) AS person, distinct_id AS distinctId FROM person_distinct_ids FINAL",
  );
  const inEvents = await warehouse.query<Belonging>(
    "SELECT DISTINCT toString(person_id) AS person, distinct_id AS distinctId FROM events",
  );
  const rows = await warehouse.query<{ id: string; distinctId: string; identified: number; properties: string }>(
    `SELECT toString(id) AS id, distinct_id AS distinctId, is_identified AS identified, toString(properties) AS properties
     FROM persons FINAL`,
  );
  const profiles = rows.map(({ identified, properties, ...row }) => ({
    ...row,
    isIdentified: identified === 1,
    properties: new Map(
      Object.entries(readProperties(Buffer.from(properties)) ?? {}).map(
        ([key, value]) => [key, JSON.stringify(value)] as const,
      ),
    ),
  }));
  return { mapped, inEvents, profiles };
}

const SETTLED_MS_MAX = 30_000;
const POLL_MS = 250;

/**
 * Resolves when the watermark of every partition, of earlier logs too, is past its last link. Rejects, with those that are
 * behind, when that takes longer than 30 seconds; WarehouseError is passed on.
 */
export async function settled(warehouse: Warehouse, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + patience(SETTLED_MS_MAX);
  for (;;) {
    signal.throwIfAborted();
    const behind = await warehouse.query<{ epoch: string; partition: number; last: string; next: string }>(
      `SELECT e.log_epoch AS epoch, e.log_partition AS partition, e.last AS last, p.next AS next
       FROM (SELECT log_epoch, log_topic, log_partition, max(log_offset) AS last FROM identity_edges GROUP BY ALL) AS e
       LEFT JOIN (SELECT log_epoch, log_topic, log_partition, max(next_offset) AS next FROM identity_progress GROUP BY ALL) AS p
       USING (log_epoch, log_topic, log_partition) WHERE p.next <= e.last`,
    );
    if (behind.length === 0) return;
    if (performance.now() > deadline) {
      const list = behind.map(({ epoch, partition, last, next }) => `${epoch}/${partition}: ${next} of ${last}`);
      throw new Error(`people not resolved in ${patience(SETTLED_MS_MAX) / 1000} s; watermarks: ${list.join(", ")}`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}
