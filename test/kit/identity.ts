// Events that say something about identity, and the people that ClickHouse shows for them.
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { parseUuid } from "#lib/events/ids.ts";
import { factsOf, type IdentityFacts, readProperties } from "#lib/identity/facts.ts";
import { type Person, peopleOf } from "#lib/identity/people.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { eventRecord } from "./consumer.ts";
import { until } from "./until.ts";

export interface Said {
  event: string;
  distinctId: string;
  /** As JSON text where numbers must keep their digits. */
  properties?: Record<string, unknown> | string;
  trusted?: boolean;
  /** Event time, milliseconds after an hour that is the same for all. */
  at?: number;
  /** When it arrived, in the same way. Default: at once. */
  receivedAt?: number;
  /** Caller-made id. */
  id: string;
}

const HOUR_US = 1_750_000_000_000_000;

function timeUsOf({ at = 0 }: Said): number {
  return HOUR_US + at * 1000;
}

function receivedUsOf(said: Said): number {
  return said.receivedAt === undefined ? timeUsOf(said) : timeUsOf({ ...said, at: said.receivedAt });
}

/** `key` decides about the partition. */
export function recordOf(said: Said, key?: string): AppendRecord {
  const { event, distinctId, trusted = false, id } = said;
  return eventRecord({
    ...{ event, distinctId, trusted, id, propertiesJson: jsonOf(said) },
    ...{ timeUs: timeUsOf(said), receivedUs: receivedUsOf(said) },
    ...(key === undefined ? {} : { key }),
  });
}

function jsonOf({ properties = {} }: Said): string {
  return typeof properties === "string" ? properties : JSON.stringify(properties);
}

function factsSaid(all: readonly Said[]): IdentityFacts[] {
  return all.map((said) => {
    const properties = readProperties(Buffer.from(jsonOf(said))) ?? {};
    if (!parseUuid(said.id)) throw new Error(`not a UUID: ${said.id}`);
    const { event, distinctId, trusted = false, id } = said;
    const times = { timeUs: timeUsOf(said), receivedUs: receivedUsOf(said) };
    return factsOf({ event, distinctId, properties, trusted, eventId: id, ...times });
  });
}

/** People as the resolver makes them in memory; everybody who only sent events is one, too. */
export function expectedPeople(all: readonly Said[]): Person[] {
  const seen = all.map(({ distinctId }) => distinctId);
  return sorted(peopleOf(factsSaid(all), seen).values());
}

/** People as `person_distinct_ids` and `persons` show them, of distinct ids that begin with `prefix`. */
export async function shownPeople(warehouse: Warehouse, prefix = ""): Promise<Person[]> {
  const ids = await warehouse.query<{ person: string; ids: string[] }>(
    `SELECT person_id AS person, arraySort(groupArray(distinct_id)) AS ids FROM person_distinct_ids FINAL
     WHERE startsWith(distinct_id, {prefix:String}) GROUP BY person_id`,
    { params: { prefix } },
  );
  const profiles = await warehouse.query<{ id: string; identified: number; keys: [string, string][] }>(
    `SELECT id, is_identified AS identified, JSONExtractKeysAndValuesRaw(properties) AS keys FROM persons FINAL`,
  );
  const profileOf = new Map(profiles.map((profile) => [profile.id, profile]));
  return sorted(
    ids.map(({ person, ids: distinctIds }) => {
      const profile = profileOf.get(person);
      return {
        ...{ id: person, distinctIds, isIdentified: profile?.identified === 1 },
        properties: new Map(profile?.keys ?? []),
      };
    }),
  );
}

function sorted(people: Iterable<Person>): Person[] {
  return [...people].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Resolves when every edge that is stored is resolved. */
export async function resolved(warehouse: Warehouse, msMax?: number): Promise<void> {
  await until(
    async () => {
      const behind = await warehouse.query(
        `SELECT 1 FROM (SELECT log_epoch, log_topic, log_partition, max(log_offset) AS last FROM identity_edges
             WHERE kind != 'erased' GROUP BY ALL) AS e
       LEFT JOIN (SELECT log_epoch, log_topic, log_partition, max(next_offset) AS next FROM identity_progress GROUP BY ALL) AS p
       USING (log_epoch, log_topic, log_partition) WHERE p.next <= e.last`,
      );
      return behind.length === 0;
    },
    "every edge is resolved",
    msMax,
  );
}
