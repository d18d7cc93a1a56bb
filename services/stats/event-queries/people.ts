// Who is who, for reading: distinct ids with their person of today, and what is known of one person. What a moment ago
// said who belongs together may not be worked out yet.
import type { Runner } from "../queries/run.ts";
import { createBinder } from "../queries/sql.ts";
import { cutSql } from "./fields.ts";

export interface PersonEntry {
  distinctId: string;
  personId: string;
  lastUs: string;
  isIdentified: boolean;
}

export interface PersonView {
  personId: string;
  distinctIds: string[];
  isIdentified: boolean;
  propertiesJson: string;
  /** Undefined: no fact names the person. */
  firstUs: string | undefined;
  lastUs: string | undefined;
}

export interface People {
  list(contains: string, limit: number, signal: AbortSignal): Promise<PersonEntry[]>;
  /** By any of the person's own ids; `distinctId` is shown among its ids. */
  person(ownId: string, distinctId: string | undefined, signal: AbortSignal): Promise<PersonView>;
  /** "AND …" that only events of the person meet, by any of its own ids. */
  condition(ownId: string, signal: AbortSignal): Promise<{ sql: string; params: Record<string, unknown> }>;
}

/** Of the events that arrived last, whose ids are listed. */
const RECENT_EVENTS = 5_000;
/** Looked for in the last of these minutes, and so on until there are enough. */
const RECENT_MINUTES = [10, 1_440, 10_080];
const IDS_MAX = 1_000;
/** Own ids travel in the address of a request. */
const OWN_IDS_MAX = 2_000;
const KEYS_MAX = 1_000;
const VALUE_CHARS_MAX = 16_000;
const DISTINCT_IDS_CHARS_MAX = 16_000;

type Entry = Record<"d" | "own" | "last", string>;

export function createPeople({ query }: Runner): People {
  async function recent(limit: number, signal: AbortSignal): Promise<Entry[]> {
    let found: Entry[] = [];
    for (const minutes of RECENT_MINUTES) {
      found = await seenWithin(minutes, limit, signal);
      if (found.length >= limit) break;
    }
    return found;
  }

  async function seenWithin(minutes: number, limit: number, signal: AbortSignal): Promise<Entry[]> {
    const bind = createBinder();
    const sql = `SELECT * FROM (
      SELECT ${cutSql("distinct_id")} AS d, toString(person_id_at_ingest) AS own, toString(toUnixTimestamp64Micro(max(at))) AS last
      FROM (SELECT distinct_id, person_id_at_ingest, timestamp AS at FROM events_raw
        WHERE log_time > now() - INTERVAL ${minutes} MINUTE AND distinct_id != '' AND is_deleted = 0
        ORDER BY log_time DESC LIMIT ${RECENT_EVENTS})
      GROUP BY distinct_id, person_id_at_ingest ORDER BY max(at) DESC LIMIT ${bind.integer(limit)})`;
    return query<Entry>({ name: "people", sql, params: bind.params, signal });
  }

  async function search(contains: string, limit: number, signal: AbortSignal): Promise<Entry[]> {
    const named = createBinder();
    const byFacts = query<Entry>({
      ...{ name: "people", params: named.params, signal },
      sql: `SELECT * FROM (
        SELECT ${cutSql("any(distinct_id)")} AS d, toString(own_person_id) AS own, toString(max(last_us)) AS last FROM identity_ids
        WHERE positionCaseInsensitiveUTF8(distinct_id, ${named.text(contains)}) > 0
        GROUP BY own_person_id ORDER BY max(last_us) DESC LIMIT ${named.integer(limit)})`,
    });
    const exact = createBinder();
    const byEvents = query<Entry>({
      ...{ name: "people", params: exact.params, signal },
      sql: `SELECT * FROM (
        SELECT ${cutSql("distinct_id")} AS d, toString(person_id_at_ingest) AS own, toString(toUnixTimestamp64Micro(max(timestamp))) AS last
        FROM events_raw WHERE distinct_id = ${exact.text(contains)} AND is_deleted = 0 GROUP BY distinct_id, person_id_at_ingest LIMIT 1)`,
    });
    const [facts, events] = await Promise.all([byFacts, byEvents]);
    return [...events, ...facts.filter(({ own }) => !events.some((event) => event.own === own))].slice(0, limit);
  }

  /** Person of each own id that stands for another. */
  async function overrides(ownIds: readonly string[], signal: AbortSignal): Promise<Map<string, string>> {
    const rows = await query<{ own: string; person: string }>({
      ...{ name: "person_overrides", params: { ids: ownIds }, signal },
      sql: `SELECT toString(own_person_id) AS own, toString(person_id) AS person FROM person_overrides FINAL
        WHERE own_person_id IN {ids:Array(UUID)}`,
    });
    return new Map(rows.map(({ own, person }) => [own, person]));
  }

  async function identified(ownIds: readonly string[], signal: AbortSignal): Promise<Set<string>> {
    const rows = await query<{ own: string }>({
      ...{ name: "person_ids", params: { ids: ownIds }, signal },
      sql: `SELECT toString(own_person_id) AS own FROM identity_ids WHERE own_person_id IN {ids:Array(UUID)}
        GROUP BY own_person_id HAVING max(is_identified) = 1`,
    });
    return new Set(rows.map(({ own }) => own));
  }

  async function ownIdsOf(ownId: string, signal: AbortSignal): Promise<{ personId: string; ownIds: string[] }> {
    const personId = (await overrides([ownId], signal)).get(ownId) ?? ownId;
    const rows = await query<{ own: string }>({
      ...{ name: "person_overrides", params: { person: personId }, signal },
      sql: `SELECT * FROM (SELECT toString(own_person_id) AS own FROM person_overrides FINAL
        WHERE person_id = {person:UUID} LIMIT ${OWN_IDS_MAX})`,
    });
    return { personId, ownIds: [...new Set([personId, ownId, ...rows.map(({ own }) => own)])] };
  }

  async function propertiesOf(ownIds: readonly string[], signal: AbortSignal): Promise<string> {
    // The same rule as the view `persons`, of one person.
    const rows = await query<{ key: string; value: string }>({
      ...{ name: "person_properties", params: { ids: ownIds }, signal },
      sql: `SELECT * FROM (SELECT key, max(last_write) AS latest, min(first_once) AS first,
          substring(latest, 54, 1) = '0' AS is_set, if(is_set, substring(latest, 55), substring(first, 54)) AS json,
          if(lengthUTF8(json) > ${VALUE_CHARS_MAX}, toJSONString(concat(leftUTF8(json, ${VALUE_CHARS_MAX - 1}), '…')), json) AS value
        FROM identity_properties WHERE own_person_id IN {ids:Array(UUID)}
        GROUP BY key HAVING is_set OR (first != '~' AND left(first, 53) > left(latest, 53)) ORDER BY key LIMIT ${KEYS_MAX})`,
    });
    return `{${rows.map(({ key, value }) => `${JSON.stringify(key)}:${value}`).join(",")}}`;
  }

  return {
    async list(contains, limit, signal) {
      const entries = await (contains === "" ? recent(limit, signal) : search(contains, limit, signal));
      const ownIds = entries.map(({ own }) => own);
      if (ownIds.length === 0) return [];
      const [persons, known] = await Promise.all([overrides(ownIds, signal), identified(ownIds, signal)]);
      return entries.map(({ d, own, last }) => {
        const personId = persons.get(own) ?? own;
        return { distinctId: d, personId, lastUs: last, isIdentified: known.has(own) || known.has(personId) };
      });
    },
    async person(ownId, distinctId, signal) {
      const { personId, ownIds } = await ownIdsOf(ownId, signal);
      const [ids, propertiesJson] = await Promise.all([
        query<{ d: string; identified: number; first: string; last: string }>({
          ...{ name: "person_ids", params: { ids: ownIds }, signal },
          sql: `SELECT * FROM (SELECT ${cutSql("any(distinct_id)")} AS d, max(is_identified) AS identified, toString(min(first_us)) AS first,
              toString(max(last_us)) AS last
            FROM identity_ids WHERE own_person_id IN {ids:Array(UUID)} GROUP BY own_person_id ORDER BY d LIMIT ${IDS_MAX})`,
        }),
        propertiesOf(ownIds, signal),
      ]);
      const named = ids.map(({ d }) => d).filter((d) => d !== "");
      const asked = distinctId === undefined || named.includes(distinctId) ? [] : [distinctId];
      const times = (of: "first" | "last") => ids.map((each) => BigInt(each[of]));
      const first = times("first").reduce<bigint | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined);
      const last = times("last").reduce<bigint | undefined>((a, b) => (a === undefined || b > a ? b : a), undefined);
      return {
        ...{ personId, propertiesJson, distinctIds: [...asked, ...named] },
        isIdentified: ids.some((each) => Number(each.identified) === 1),
        ...{ firstUs: first?.toString(), lastUs: last?.toString() },
      };
    },
    async condition(ownId, signal) {
      const { ownIds } = await ownIdsOf(ownId, signal);
      const names = await query<{ own: string; d: string }>({
        ...{ name: "person_ids", params: { ids: ownIds }, signal },
        sql: `SELECT toString(own_person_id) AS own, any(distinct_id) AS d FROM identity_ids
          WHERE own_person_id IN {ids:Array(UUID)} GROUP BY own_person_id`,
      });
      const sql = "AND person_id_at_ingest IN {owned:Array(UUID)}";
      const distinctIds = names.map(({ d }) => d).filter((d) => d !== "");
      const isComplete = names.length === ownIds.length && distinctIds.length === ownIds.length;
      const fits = distinctIds.join("").length <= DISTINCT_IDS_CHARS_MAX && !distinctIds.some((d) => d.includes("\0"));
      // Distinct ids have an index, own person ids have none.
      if (!isComplete || !fits) return { sql, params: { owned: ownIds } };
      return { sql: `AND distinct_id IN {named:Array(String)} ${sql}`, params: { owned: ownIds, named: distinctIds } };
    },
  };
}
