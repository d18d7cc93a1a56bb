// Single events and dead letters, page by page, the newest first.
import type { Runner } from "../queries/run.ts";
import { createBinder } from "../queries/sql.ts";
import { type Cursor, cutSql, eventSql, type Range, rangeSql } from "./fields.ts";

export interface StoredEventRow {
  id: string;
  eventName: string;
  distinctId: string;
  personId: string;
  timeUs: string;
  receivedUs: string;
  propertiesJson: string;
  sourceText: string;
  value: number | null;
  partition: number;
  offset: string;
}

export interface EventsQuery {
  range: Range;
  event: string;
  /** "AND …" with its parameters. */
  person: { sql: string; params: Record<string, unknown> };
  limit: number;
  after: Cursor | undefined;
  signal: AbortSignal;
}

export interface DeadLetterRow {
  epoch: string;
  topic: string;
  partition: number;
  offset: string;
  ms: string;
  errorClass: string;
  errorText: string;
  chars: string;
  begin: string;
}

export interface DeadLetterClassRow {
  errorClass: string;
  n: string;
  last: string;
}

const PROPERTIES_CHARS_MAX = 16_000;
/** Base64 of 3,000 bytes. */
const LETTER_CHARS_MAX = 4_000;

/** Length of a cursor of events: time, partition, offset. */
export const EVENTS_CURSOR = 3;
/** Time, epoch, topic, partition, offset. */
export const LETTERS_CURSOR = 5;

/** Of a busy name the newest events are found in the last hour, and the properties of all others are not read. */
const LOOKS_MS = [3_600_000, 86_400_000];

/** Rejects with StatsQueryError, or with the reason of the signal. */
export async function readEvents(runner: Runner, asked: EventsQuery): Promise<StoredEventRow[]> {
  const { fromMs, toMs } = asked.range;
  const endMs = asked.after ? Math.min(toMs, Math.ceil(Number(asked.after[0]) / 1000) + 1) : toMs;
  // Of one person there are few, mostly.
  const looks = asked.person.sql === "" ? LOOKS_MS.filter((ms) => endMs - ms > fromMs) : [];
  for (const ms of looks) {
    const found = await readRange(runner, { ...asked, range: { fromMs: endMs - ms, toMs: endMs } });
    if (found.length >= asked.limit) return found;
  }
  return readRange(runner, { ...asked, range: { fromMs, toMs: endMs } });
}

function readRange({ query }: Runner, asked: EventsQuery): Promise<StoredEventRow[]> {
  const { range, event, person, limit, after, signal } = asked;
  const bind = createBinder();
  const beyond = after
    ? "AND (timestamp, log_partition, log_offset) < (fromUnixTimestamp64Micro({cUs:Int64}, 'UTC'), {cPartition:UInt32}, {cOffset:UInt64})"
    : "";
  const wanted = `${rangeSql(range, bind)} ${eventSql(event, bind)} ${person.sql} ${beyond}`;
  // Somebody may have events everywhere: when the newest of them were is found out first, and no other properties are read.
  const newest =
    person.sql === ""
      ? ""
      : `AND timestamp >= (SELECT min(timestamp) FROM (
          SELECT timestamp FROM events_raw WHERE ${wanted} ORDER BY timestamp DESC LIMIT ${bind.integer(limit)}))`;
  const sql = `SELECT * FROM (
    SELECT toString(uuid) AS id, ${cutSql("event")} AS eventName, ${cutSql("distinct_id")} AS distinctId,
      if(distinct_id = '', '', toString(person_id_at_ingest)) AS personId, toString(toUnixTimestamp64Micro(timestamp)) AS timeUs,
      toString(toUnixTimestamp64Micro(inserted_at)) AS receivedUs, ${cutSql("properties", PROPERTIES_CHARS_MAX)} AS propertiesJson,
      ${cutSql("source")} AS sourceText, value, log_partition AS partition, toString(log_offset) AS offset
    FROM events_raw WHERE ${wanted} ${newest}
    ORDER BY timestamp DESC, log_partition DESC, log_offset DESC LIMIT ${bind.integer(limit)})`;
  const [cUs, cPartition, cOffset] = after ?? [];
  const params = { ...bind.params, ...person.params, ...(after && { cUs, cPartition, cOffset }) };
  return query<StoredEventRow>({ name: "events", sql, params, signal });
}

/** Rejects with StatsQueryError, or with the reason of the signal. */
export async function readDeadLetters(
  { query }: Runner,
  {
    errorClass,
    limit,
    after,
    signal,
  }: { errorClass: string; limit: number; after: Cursor | undefined; signal: AbortSignal },
): Promise<{ classes: DeadLetterClassRow[]; letters: DeadLetterRow[] }> {
  const bind = createBinder();
  const ofClass = errorClass === "" ? "" : `AND error_class = ${bind.text(errorClass)}`;
  const sortKey = ["log_time", "log_epoch", "log_topic", "log_partition", "log_offset"];
  const cursor =
    "(fromUnixTimestamp64Milli({cMs:Int64}, 'UTC'), {cEpoch:String}, {cTopic:String}, {cPartition:UInt32}, {cOffset:UInt64})";
  const sql = `SELECT * FROM (
    SELECT log_epoch AS epoch, log_topic AS topic, log_partition AS partition, toString(log_offset) AS offset,
      toString(toUnixTimestamp64Milli(log_time)) AS ms, ${cutSql("error_class")} AS errorClass, ${cutSql("error")} AS errorText,
      toString(length(value_base64)) AS chars, left(value_base64, ${LETTER_CHARS_MAX}) AS begin
    FROM dead_letters WHERE true ${ofClass} ${after ? `AND (${sortKey.join(", ")}) < ${cursor}` : ""}
    ORDER BY ${sortKey.map((column) => `${column} DESC`).join(", ")} LIMIT ${bind.integer(limit)})`;
  const [cMs, cEpoch, cTopic, cPartition, cOffset] = after ?? [];
  const params = { ...bind.params, ...(after && { cMs, cEpoch, cTopic, cPartition, cOffset }) };
  const [classes, letters] = await Promise.all([
    query<DeadLetterClassRow>({
      ...{ name: "dead_letter_classes", params: {}, signal },
      sql: `SELECT * FROM (SELECT ${cutSql("error_class")} AS errorClass, toString(count()) AS n,
          toString(toUnixTimestamp64Milli(max(log_time))) AS last
        FROM dead_letters GROUP BY error_class ORDER BY count() DESC, error_class LIMIT 100)`,
    }),
    query<DeadLetterRow>({ name: "dead_letters", sql, params, signal }),
  ]);
  return { classes, letters };
}
