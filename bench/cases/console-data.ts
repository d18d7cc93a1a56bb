// What the console's case asks about, made by ClickHouse itself: ten million events of a million people over thirty days, with
// what else there is after such a month: repeated events, dead letters, points of fifty hosts, alerts with their history.
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { slotOf } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Setting } from "../result.ts";
import { fillPoints, rollUp } from "./points-data.ts";

const DAYS = 30;
const NAMES = 40;
const DAY_MS = 86_400_000;
const MAX_SECONDS = 600;
/** As often as the roll-up has a row of a series: more of them would make it no longer. */
const POLL_MS = 300_000;
const ALERTS = 100;
const CHANGES_PER_ALERT = 200;
const ORIGIN = { epoch: "bench0000", topic: EVENTS_TOPIC, partition: 0 };
/** Someone who is no person, as a crawler: has one event in a hundred. */
export const BOT = "user_0";
export const LETTER_CLASSES = ["undecodable", "too_large", "invalid"] as const;

/** As lib/events/ids.ts makes it of a distinct id. */
const ownId = (
  sha: string,
) => `toUUID(concat(substring(${sha}, 1, 8), '-', substring(${sha}, 9, 4), '-5', substring(${sha}, 14, 3), '-',
  translate(substring(${sha}, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab'), substring(${sha}, 18, 3), '-', substring(${sha}, 21, 12)))`;

export interface Filled {
  events: number;
  people: number;
  /** Offsets behind those of the events: records that repeat one, then dead letters. */
  repeats: number;
  letters: number;
  endMs: number;
}

/** Of the event of this number. */
export function idOf(n: number): string {
  const hex = n.toString(16).padStart(12, "0");
  return `0198c1a2-7b7e-7cc0-8f00-${hex}`;
}

/** Of the record at this offset. */
export function positionOf(offset: number): string {
  return `${ORIGIN.epoch}:${ORIGIN.topic}:${ORIGIN.partition}:${offset}`;
}

/** Of a person. */
export function distinctIdOf(n: number): string {
  return `user_${n}`;
}

export interface Sizes {
  events: number;
  people: number;
  pointDays: number;
}

export async function fillConsole(
  warehouse: Warehouse,
  { events, people, pointDays }: Sizes,
  setting: Setting,
): Promise<Filled> {
  const endMs = slotOf(Date.now());
  const perDay = Math.floor(events / DAYS);
  const stored = perDay * DAYS;
  const filled = {
    events: stored,
    people,
    repeats: Math.ceil(stored / 100),
    letters: Math.ceil(stored / 1_000),
    endMs,
  };
  for (let day = 0; day < DAYS; day++) {
    setting.signal.throwIfAborted();
    setting.progress(`events of day ${day + 1} of ${DAYS}`);
    await insertDay(warehouse, { from: day * perDay, count: perDay, startMs: endMs - (DAYS - day) * DAY_MS, people });
  }
  await rollUp(warehouse, ORIGIN, { startMs: endMs - DAYS * DAY_MS, endMs }, setting);
  await fillPoints(warehouse, { endMs, days: pointDays, pollMs: POLL_MS }, setting);
  setting.progress("people, letters, alerts");
  await insertPeople(warehouse, people, endMs);
  await insertOutcomes(warehouse, filled);
  await insertAlerts(warehouse, endMs);
  return filled;
}

async function insertDay(
  warehouse: Warehouse,
  { from, count, startMs, people }: { from: number; count: number; startMs: number; people: number },
): Promise<void> {
  await warehouse.command(
    `INSERT INTO events_raw (uuid, event, distinct_id, person_id_at_ingest, timestamp, inserted_at, properties, source, value,
       uuid_from_caller, log_epoch, log_topic, log_partition, log_offset, log_time)
     WITH {from:UInt64} + number AS n, sipHash64(n) AS h,
       if(h % 101 = 0, '${BOT}', concat('user_', toString(h % {people:UInt64}))) AS who, lower(hex(SHA1(who))) AS sha,
       fromUnixTimestamp64Milli(toInt64({start:Int64} + intDiv(number * ${DAY_MS}, {count:UInt64})), 'UTC') AS at
     SELECT toUUID(concat('0198c1a2-7b7e-7cc0-8f00-', lower(leftPad(hex(n), 12, '0')))),
       concat('event_', toString(toUInt32(${NAMES} * pow((h % 1000003) / 1000003, 3)))), who, ${ownId("sha")}, at, at,
       concat('{"path":"/p/', toString(h % 97), '","plan":"', ['free','pro','team'][h % 3 + 1], '","browser":"',
         ['Firefox','Chrome','Safari','Edge'][intDiv(h, 3) % 4 + 1], '","items":', toString(intDiv(h, 7) % 9),
         ',"visit":"', hex(h), '","referrer":"https://example.com/', toString(h % 1009), '","width":', toString(h % 1920),
         ',"is_new":', if(h % 2 = 0, 'true', 'false'), '}'),
       'web', if(h % 20 = 0, h % 1000 / 10, NULL), true, {epoch:String}, {topic:String}, 0, n, at
     FROM numbers({count:UInt64})`,
    {
      params: { from, count, start: startMs, people, epoch: ORIGIN.epoch, topic: ORIGIN.topic },
      maxSeconds: MAX_SECONDS,
    },
  );
}

/** Everybody is identified and has two properties; every fourth person has two ids. */
async function insertPeople(warehouse: Warehouse, people: number, endMs: number): Promise<void> {
  const run = (sql: string) =>
    warehouse.command(sql, { params: { people, us: endMs * 1_000 }, maxSeconds: MAX_SECONDS });
  const who = "concat('user_', toString(number)) AS who, lower(hex(SHA1(who))) AS sha";
  await run(`INSERT INTO identity_ids WITH ${who} SELECT ${ownId("sha")}, who, 1, 1, {us:Int64} - 1000000 * number, {us:Int64} - number
    FROM numbers({people:UInt64})`);
  await run(`INSERT INTO identity_properties WITH ${who}, concat(leftPad(toString({us:Int64}), 17, '0'), toString(toUUID('0198c1a2-7b7e-7cc0-8f00-000000000000'))) AS at
    SELECT ${ownId("sha")}, key, concat(at, '0', '"', key, toString(number), '"'), '~' FROM numbers({people:UInt64}) ARRAY JOIN ['email', 'plan'] AS key`);
  await run(`INSERT INTO person_overrides WITH concat('user_', toString(4 * number)) AS first, concat('user_', toString(4 * number + 1)) AS who,
      lower(hex(SHA1(who))) AS sha, ${ownId("sha")} AS own, lower(hex(SHA1(first))) AS sha2
    SELECT own, ${ownId("sha2")}, 1 FROM numbers(intDiv({people:UInt64}, 4))`);
}

/** One record in a hundred repeats an event, one in a thousand could not be stored. */
async function insertOutcomes(warehouse: Warehouse, { events, repeats, letters, endMs }: Filled): Promise<void> {
  const { epoch, topic } = ORIGIN;
  const run = (sql: string, count: number, first: number) =>
    warehouse.command(sql, { params: { epoch, topic, events, count, first, end: endMs }, maxSeconds: MAX_SECONDS });
  const at = `fromUnixTimestamp64Milli({end:Int64} - intDiv(number * ${DAYS * DAY_MS}, {count:UInt64}), 'UTC')`;
  const place = "{epoch:String}, {topic:String}, 0, {first:UInt64} + number";
  const columns = "log_epoch, log_topic, log_partition, log_offset";
  await run(
    `INSERT INTO log_outcomes (${columns}, outcome, detail, log_time)
     SELECT ${place}, 'duplicate', concat('0:', toString(sipHash64(number) % {events:UInt64})), ${at} FROM numbers({count:UInt64})`,
    ...([repeats, events] as const),
  );
  const name = `[${LETTER_CLASSES.map((each) => `'${each}'`).join()}][number % ${LETTER_CLASSES.length} + 1]`;
  await run(
    `INSERT INTO log_outcomes (${columns}, outcome, detail, log_time)
     SELECT ${place}, 'dead_letter', ${name}, ${at} FROM numbers({count:UInt64})`,
    ...([letters, events + repeats] as const),
  );
  await run(
    `INSERT INTO dead_letters (${columns}, log_time, error_class, error, key_base64, value_base64)
     SELECT ${place}, ${at}, ${name}, 'byte 17 is not a field of this record', '', base64Encode(randomString(600)) FROM numbers({count:UInt64})`,
    ...([letters, events + repeats] as const),
  );
  await run(
    "INSERT INTO log_progress (log_epoch, log_topic, log_partition, next_offset) SELECT {epoch:String}, {topic:String}, 0, {first:UInt64} + {count:UInt64}",
    ...([letters, events + repeats] as const),
  );
}

/** Of a metric that nobody measures and that may be missing: no evaluation changes them while something is measured. */
async function insertAlerts(warehouse: Warehouse, endMs: number): Promise<void> {
  const run = (sql: string) => warehouse.command(sql, { params: { end: endMs }, maxSeconds: MAX_SECONDS });
  const idOfAlert = (n: string) => `reinterpretAsUUID(MD5(concat('alert ', toString(${n}))))`;
  const at = (n: string) =>
    `fromUnixTimestamp64Milli({end:Int64} - intDiv(${DAYS * DAY_MS} * ${n}, ${CHANGES_PER_ALERT}), 'UTC')`;
  await run(`INSERT INTO alerts (alert_id, version, is_deleted, write_id, metric, tags, level, operator, threshold, duration_ms,
      duration, post, group_by, no_data, created_at, updated_at)
    SELECT ${idOfAlert("number")}, 1, 0, generateUUIDv4(), concat('unmeasured_', toString(number)), map(), 'crit', 'gt', 90, 300000,
      '5m', 'http://127.0.0.1:9/', [], 'keep', ${at("1")}, ${at("1")} FROM numbers(${ALERTS})`);
  const change = `concat('change ', toString(number))`;
  const columns = "kind, transition_id, alert_id, at";
  const values = (kind: string) =>
    `'${kind}', reinterpretAsUUID(MD5(${change})), ${idOfAlert(`number % ${ALERTS}`)}, ${at(`intDiv(number, ${ALERTS})`)}`;
  const all = `numbers(${ALERTS * CHANGES_PER_ALERT})`;
  await run(`INSERT INTO alert_events (${columns}, alert_version, scope, level, previous_level, value, window_start, metric, payload, post)
    SELECT ${values("transition")}, 1, 'bench', if(intDiv(number, ${ALERTS}) % 2 = 0, 'ok', 'crit'), if(intDiv(number, ${ALERTS}) % 2 = 0, 'crit', 'ok'),
      number % 100, ${at(`intDiv(number, ${ALERTS})`)} - INTERVAL 5 MINUTE, concat('unmeasured_', toString(number % ${ALERTS})),
      concat('{"id":"', repeat('x', 400), '"}'), 'http://127.0.0.1:9/' FROM ${all}`);
  await run(
    `INSERT INTO alert_events (${columns}, attempts, http_status, error) SELECT ${values("delivered")}, 1, 200, '' FROM ${all}`,
  );
}
