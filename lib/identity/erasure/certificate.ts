// What shows that nothing is left, and what else there is.
import { type LogReader, OffsetOutOfRangeError } from "#lib/eventlog/log.ts";
import type { LogRetention } from "#lib/eventlog/retention.ts";
import type { Erasure } from "#lib/identity/erasures.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { countLetters, OWN_ROWS } from "./events.ts";
import { STATEMENT_SECONDS_MAX } from "./mutation.ts";
import { slotsLeft } from "./rollup.ts";
import { BELOW, EDGES, ERASED, IDS, POSITION, pasted } from "./sql.ts";

export interface Check {
  what: string;
  /** As it can be run again; undefined for what ClickHouse cannot tell. */
  query: string | undefined;
  count: number;
}

export interface Remains {
  partition: number;
  /** Records of everybody from here ... */
  from: number;
  /** ... to here, both included, among which are the person's. */
  to: number;
  /** When the log took the newest of them, milliseconds since 1970. */
  newestAtMs: number;
}

export interface Certificate {
  erasure: Erasure;
  /** Offsets that were rows or dead letters of the person. */
  erased: number;
  checks: Check[];
  remains: Remains[];
}

/** When the last of the person's records is gone from the log at the latest, milliseconds since 1970. */
export function remainUntilMs({ remains }: Certificate, { keptMs }: LogRetention): number | undefined {
  if (remains.length === 0 || keptMs === undefined) return undefined;
  return Math.max(...remains.map(({ newestAtMs }) => newestAtMs)) + keptMs;
}

export function isClean({ checks }: Certificate): boolean {
  return checks.every(({ count }) => count === 0);
}

const READ_MS_MAX = 5_000;

/** Rows that are deleted but still in the files count. */
const WITH_HIDDEN = "SETTINGS apply_deleted_mask = 0";
const LATER_EDGES = `SELECT own_person_id FROM identity_edges WHERE own_person_id IN ${IDS} AND NOT ${BELOW}`;
const LATER_ROWS = `FROM events_raw WHERE person_id_at_ingest IN ${IDS} AND NOT ${BELOW}`;

const CHECKS: readonly [what: string, from: string][] = [
  ["events", `events_raw WHERE ${OWN_ROWS} ${WITH_HIDDEN}`],
  ["dead letters", `dead_letters WHERE (${POSITION}) IN ${ERASED} ${WITH_HIDDEN}`],
  [
    "outcomes of dead letters",
    `log_outcomes WHERE outcome = 'dead_letter' AND (${POSITION}) IN ${ERASED} ${WITH_HIDDEN}`,
  ],
  ["links", `identity_edges WHERE ${EDGES}`],
  [
    "distinct ids that no later event names",
    `identity_ids WHERE own_person_id IN ${IDS}
       AND own_person_id NOT IN (SELECT person_id_at_ingest ${LATER_ROWS} UNION ALL ${LATER_EDGES})`,
  ],
  [
    "properties that no later event set",
    `identity_properties WHERE own_person_id IN ${IDS}
       AND ((last_write != '' AND substring(last_write, 18, 36) NOT IN (SELECT toString(uuid) ${LATER_ROWS}))
         OR (first_once != '~' AND substring(first_once, 18, 36) NOT IN (SELECT toString(uuid) ${LATER_ROWS})))`,
  ],
  [
    "ids that stand for another without a later link",
    `person_overrides_now WHERE own_person_id IN ${IDS} AND own_person_id NOT IN (${LATER_EDGES})`,
  ],
];

/** Rejects with LogUnavailableError or WarehouseError. */
export async function certify(log: LogReader, warehouse: Warehouse, erasure: Erasure): Promise<Certificate> {
  const checks: Check[] = [];
  for (const [what, from] of CHECKS) {
    const sql = `SELECT count() AS n FROM ${from}`;
    checks.push({ what, query: pasted(sql, erasure.id), count: await countOf(warehouse, sql, erasure.id) });
  }
  const letters = await countLetters(warehouse, erasure.ownIds, erasure);
  checks.push({
    what: "dead letters that speak of the person, each read and decoded",
    query: undefined,
    count: letters,
  });
  checks.push({
    what: "slots of the roll-up in which its events arrived and that say something else than the events that are left",
    query: undefined,
    count: (await slotsLeft(warehouse, erasure)).length,
  });
  const erased = `SELECT uniqExact(${POSITION}) AS n FROM log_outcomes WHERE outcome = 'erased' AND detail = toString({erasure:UUID})`;
  return {
    ...{ erasure, checks },
    erased: await countOf(warehouse, erased, erasure.id),
    remains: await remainsOf(log, erasure),
  };
}

async function countOf(warehouse: Warehouse, sql: string, erasureId: string): Promise<number> {
  const options = { params: { erasure: erasureId }, maxSeconds: STATEMENT_SECONDS_MAX };
  const [row] = await warehouse.query<{ n: string }>(sql, options);
  return Number(row?.n ?? 0);
}

async function remainsOf(log: LogReader, { topic, ends, requestedAtMs }: Erasure): Promise<Remains[]> {
  const remains: Remains[] = [];
  for (const { partition, start } of await log.bounds(topic)) {
    const end = ends.get(partition) ?? 0;
    if (start >= end) continue;
    // Each of them was on the log when the erasure was asked for.
    const newestAtMs = (await appendTimeOf(log, topic, partition, end - 1)) ?? requestedAtMs;
    remains.push({ partition, from: start, to: end - 1, newestAtMs });
  }
  return remains;
}

/** Undefined when the record has been removed meanwhile. */
async function appendTimeOf(log: LogReader, topic: string, partition: number, offset: number) {
  try {
    const read = { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: READ_MS_MAX };
    return (await log.tail(topic, partition, read))[0]?.appendTimeMs;
  } catch (error) {
    if (error instanceof OffsetOutOfRangeError) return undefined;
    throw error;
  }
}
