// What ClickHouse knows of events, by id and by position: every question of receipts to it is here.
import type { LogPlace } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { createIdLookup } from "#lib/warehouse/id-lookup.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";

/** A row of events_raw. */
export interface FoundRow {
  id: string;
  place: LogPlace;
  appendedMs: number;
  receivedUs: number;
  /** Undefined when ClickHouse no longer says; to the second. */
  storedMs: number | undefined;
  event: string;
  distinctId: string;
  source: string;
  value: number | undefined;
  timeUs: number;
  /** At most one character more than PROPERTIES_CHARS_MAX. */
  properties: string;
}

/** A line of log_outcomes. */
export interface FoundOutcome {
  place: LogPlace;
  appendedMs: number;
  outcome: string;
  detail: string;
}

export interface FoundLetter {
  /** "" when its bytes begin with none. */
  id: string;
  place: LogPlace;
  appendedMs: number;
  errorClass: string;
  error: string;
}

export interface Found {
  rows: FoundRow[];
  outcomes: FoundOutcome[];
  letters: FoundLetter[];
}

export interface Wanted {
  ids: readonly string[];
  places: readonly LogPlace[];
  withProperties: boolean;
  signal?: AbortSignal | undefined;
}

export const PROPERTIES_CHARS_MAX = 8_192;
const SECONDS_MAX = 8;
/** Of one id: a second key may have it too, and an audit may find more. */
const PER_ID_MAX = 20;
const LETTERS_MAX = 20_000;
const LIMITS = "SETTINGS max_threads = 2, max_memory_usage = 1000000000";
const PLACE =
  "log_epoch AS epoch, log_partition AS partition, toString(log_offset) AS offset, toString(toUnixTimestamp64Milli(log_time)) AS appended";
/** The id is the first field of a record: its 18 bytes are 24 characters of base64. */
const LETTER_ID = "lower(hex(substring(tryBase64Decode(substring(value_base64, 1, 24)), 3, 16)))";

type PlaceRow = { epoch: string; partition: number; offset: string; appended: string };

/** Rejects with WarehouseError. */
export type LookUp = (wanted: Wanted) => Promise<Found>;

export function createLookUp(warehouse: Warehouse): LookUp {
  const placesOf = createIdLookup(warehouse, STORED_EVENTS.table);
  return async (wanted) => {
    const { ids, signal } = wanted;
    const known = ids.length === 0 ? [] : await placesOf(ids, { signal, maxSeconds: SECONDS_MAX });
    const ofIds = known.map((place) => ({ ...place, topic: EVENTS_TOPIC }));
    const shards = await Promise.all(shardsOf(warehouse).map((shard) => lookUpIn(shard, wanted, ofIds)));
    return {
      rows: shards.flatMap(({ rows }) => rows),
      outcomes: shards.flatMap(({ outcomes }) => outcomes),
      letters: shards.flatMap(({ letters }) => letters),
    };
  };
}

async function lookUpIn(
  shard: Warehouse,
  { ids, places, withProperties, signal }: Wanted,
  placesOfIds: readonly LogPlace[],
): Promise<Found> {
  const ask = <Row>(sql: string, params: Record<string, unknown>) =>
    shard.query<Row>(`${sql} ${LIMITS}`, {
      params: { ...params, topic: EVENTS_TOPIC },
      signal,
      maxSeconds: SECONDS_MAX,
    });
  const at = atPlaces(places);
  const ofIds = atPlaces(placesOfIds);
  const [byId, byPlace, outcomes, letters] = await Promise.all([
    // The places are those of a hash of the id.
    placesOfIds.length === 0
      ? []
      : ask<RawRow>(rowsWhere(`${ofIds.sql} AND uuid IN {ids:Array(UUID)}`, withProperties), { ...ofIds.params, ids }),
    places.length === 0 ? [] : ask<RawRow>(rowsWhere(at.sql, withProperties), at.params),
    places.length === 0 ? [] : ask<RawOutcome>(outcomesWhere(at.sql), at.params),
    ask<RawLetter>(
      `SELECT ${LETTER_ID} AS id, ${PLACE}, error_class, error FROM dead_letters
       WHERE log_topic = {topic:String} AND (id IN {hex:Array(String)} OR ${at.sql})
       ORDER BY log_time DESC LIMIT ${LETTERS_MAX}`,
      { hex: ids.map((id) => id.replaceAll("-", "")), ...at.params },
    ),
  ]);
  const rows = distinct([...byId, ...byPlace]);
  const known = rows.map(placeOf);
  const [ofRows, repeats, parts] = await Promise.all([
    known.length === 0 ? [] : outcomesAt(ask, known),
    known.length === 0 ? [] : repeatsOf(ask, known),
    partTimes(
      shard,
      rows.map(({ part }) => part),
      signal,
    ),
  ]);
  return {
    rows: rows.map((row) => foundRow(row, parts.get(row.part))),
    outcomes: distinct([...outcomes, ...ofRows, ...repeats]).map((row) => ({ ...momentOf(row), ...row })),
    letters: letters.map((row) => ({
      ...momentOf(row),
      id: hyphened(row.id),
      errorClass: row.error_class,
      error: row.error,
    })),
  };
}

type Ask = <Row>(sql: string, params: Record<string, unknown>) => Promise<Row[]>;
type RawOutcome = PlaceRow & { outcome: string; detail: string };
type RawLetter = PlaceRow & { id: string; error_class: string; error: string };
type RawRow = PlaceRow &
  Record<"id" | "received" | "event" | "distinct_id" | "source" | "time" | "properties" | "part", string> & {
    value: number | null;
  };

function rowsWhere(where: string, withProperties: boolean): string {
  const properties = withProperties ? `substringUTF8(properties, 1, ${PROPERTIES_CHARS_MAX + 1})` : "''";
  return `SELECT toString(uuid) AS id, ${PLACE}, toString(toUnixTimestamp64Micro(inserted_at)) AS received, event, distinct_id,
      source, value, toString(toUnixTimestamp64Micro(timestamp)) AS time, ${properties} AS properties, _part AS part
    FROM events_raw WHERE log_topic = {topic:String} AND ${where} ORDER BY log_time LIMIT ${PER_ID_MAX} BY uuid`;
}

function outcomesWhere(where: string): string {
  return `SELECT ${PLACE}, outcome, detail FROM log_outcomes WHERE log_topic = {topic:String} AND ${where}`;
}

function outcomesAt(ask: Ask, places: readonly LogPlace[]): Promise<RawOutcome[]> {
  const { sql, params } = atPlaces(places);
  return ask<RawOutcome>(outcomesWhere(sql), params);
}

/** What repeats these rows: an outcome names the row by partition and offset, and by epoch where that is an older one. */
function repeatsOf(ask: Ask, places: readonly LogPlace[]): Promise<RawOutcome[]> {
  const near = places.map(({ partition, offset }) => `${partition}:${offset}`);
  const far = places.map(({ epoch, partition, offset }) => `${epoch}:${partition}:${offset}`);
  const epochs = [...new Set(places.map(({ epoch }) => epoch))];
  const partitions = [...new Set(places.map(({ partition }) => partition))];
  const own = "log_epoch IN {epochs:Array(String)} AND log_partition IN {partitions:Array(UInt32)}";
  return ask<RawOutcome>(
    `${outcomesWhere(`outcome IN ('duplicate', 'conflict')
       AND (${own} AND detail IN {near:Array(String)} OR detail IN {far:Array(String)})`)}
     ORDER BY log_time LIMIT ${PER_ID_MAX} BY detail`,
    { near, far, epochs, partitions },
  );
}

/**
 * When parts were written, milliseconds since 1970: of those that are still as their insert made them. Merged ones do not say
 * any more, and not every account may look.
 */
async function partTimes(shard: Warehouse, parts: readonly string[], signal: AbortSignal | undefined) {
  if (parts.length === 0) return new Map<string, number>();
  try {
    const rows = await shard.query<{ name: string; s: string }>(
      `SELECT name, toString(toUnixTimestamp(modification_time)) AS s FROM system.parts
       WHERE database = currentDatabase() AND table LIKE 'events_raw%' AND level = 0 AND name IN {parts:Array(String)}`,
      { params: { parts: [...new Set(parts)] }, signal, maxSeconds: SECONDS_MAX },
    );
    return new Map(rows.map(({ name, s }) => [name, Number(s) * 1000]));
  } catch {
    // A receipt without this time is still one.
    return new Map<string, number>();
  }
}

function foundRow(row: RawRow, partMs: number | undefined): FoundRow {
  const { id, received, event, distinct_id: distinctId, source, value, time, properties } = row;
  const { place, appendedMs } = momentOf(row);
  // A part's time is cut to the second, and no row is stored before it is on the log.
  const storedMs = partMs === undefined ? undefined : Math.max(partMs, appendedMs);
  return {
    ...{ id, place, appendedMs, storedMs, event, distinctId, source, properties },
    ...{ receivedUs: Number(received), value: value ?? undefined, timeUs: Number(time) },
  };
}

function placeOf({ epoch, partition, offset }: PlaceRow): LogPlace {
  return { epoch, topic: EVENTS_TOPIC, partition: Number(partition), offset: Number(offset) };
}

/** Of a place among those of one topic. */
export function keyOf({ epoch, partition, offset }: LogPlace): string {
  return `${epoch}:${partition}:${offset}`;
}

function momentOf(row: PlaceRow) {
  return { place: placeOf(row), appendedMs: Number(row.appended) };
}

function distinct<Row extends PlaceRow & { outcome?: string }>(rows: readonly Row[]): Row[] {
  return [...new Map(rows.map((row) => [`${row.epoch}:${row.partition}:${row.offset}:${row.outcome}`, row])).values()];
}

function hyphened(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** One condition a partition: the outcomes are sorted by these columns. */
function atPlaces(places: readonly LogPlace[]): { sql: string; params: Record<string, unknown> } {
  const params: Record<string, unknown> = {};
  const groups = Map.groupBy(places, ({ epoch, partition }) => `${epoch}:${partition}`);
  const conditions = [...groups.values()].map((group, n) => {
    const [{ epoch, partition }] = group as [LogPlace];
    Object.assign(params, { [`e${n}`]: epoch, [`p${n}`]: partition, [`o${n}`]: group.map(({ offset }) => offset) });
    return `log_epoch = {e${n}:String} AND log_partition = {p${n}:UInt32} AND log_offset IN {o${n}:Array(UInt64)}`;
  });
  return { sql: conditions.length === 0 ? "false" : `(${conditions.map((each) => `(${each})`).join(" OR ")})`, params };
}

/** All epochs that the tables know of. */
export async function storedEpochs(warehouse: Warehouse, signal?: AbortSignal): Promise<string[]> {
  const rows = await warehouse.query<{ epoch: string }>(
    `SELECT DISTINCT log_epoch AS epoch FROM (
       SELECT log_epoch FROM log_progress WHERE log_topic = {topic:String}
       UNION ALL SELECT log_epoch FROM log_epochs WHERE log_topic = {topic:String})`,
    { params: { topic: EVENTS_TOPIC }, signal, maxSeconds: SECONDS_MAX },
  );
  return rows.map(({ epoch }) => epoch);
}

export interface Reach {
  /** Append time of the oldest record that rows and outcomes speak of; undefined when there are none. */
  sinceMs: number | undefined;
  /** Events that are gone with their ids: found by position alone. */
  gone: number;
}

/** How far a search by id reaches. */
export async function reachOf(warehouse: Warehouse, signal?: AbortSignal): Promise<Reach> {
  const ofShards = await Promise.all(
    shardsOf(warehouse).map((shard) =>
      shard.query<{ since: string; n: string; gone: string }>(
        `SELECT toString(min(s)) AS since, toString(sum(n)) AS n, toString(sum(gone)) AS gone FROM (
           SELECT toUnixTimestamp64Milli(min(log_time)) AS s, count() AS n, 0 AS gone FROM events_raw HAVING n > 0
           UNION ALL
           SELECT toUnixTimestamp64Milli(min(log_time)) AS s, count() AS n, countIf(outcome IN ('erased', 'lost')) AS gone
           FROM log_outcomes WHERE log_topic = {topic:String} HAVING n > 0)`,
        { params: { topic: EVENTS_TOPIC }, signal, maxSeconds: SECONDS_MAX },
      ),
    ),
  );
  const rows = ofShards.flat().filter(({ n }) => Number(n) > 0);
  const sinceMs = rows.length === 0 ? undefined : Math.min(...rows.map(({ since }) => Number(since)));
  return { sinceMs, gone: rows.reduce((sum, { gone }) => sum + Number(gone), 0) };
}
