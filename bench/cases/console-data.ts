// What the console's case asks about: ten million events of a million people over thirty days, made by ClickHouse itself.
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Setting } from "../result.ts";

export const DAYS = 30;
export const NAMES = 40;
const DAY_MS = 86_400_000;
const MAX_SECONDS = 600;
export const ORIGIN = { epoch: "bench0000", topic: EVENTS_TOPIC, partition: 0 };

/** As lib/events/ids.ts makes it of a distinct id. */
const ownId = (
  sha: string,
) => `toUUID(concat(substring(${sha}, 1, 8), '-', substring(${sha}, 9, 4), '-5', substring(${sha}, 14, 3), '-',
  translate(substring(${sha}, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab'), substring(${sha}, 18, 3), '-', substring(${sha}, 21, 12)))`;

export interface Filled {
  events: number;
  people: number;
}

/** Of the event of this number. */
export function idOf(n: number): string {
  const hex = n.toString(16).padStart(12, "0");
  return `0198c1a2-7b7e-7cc0-8f00-${hex}`;
}

/** Of a person. */
export function distinctIdOf(n: number): string {
  return `user_${n}`;
}

export async function fillConsole(warehouse: Warehouse, setting: Setting): Promise<Filled> {
  const { events, people } = setting.quick
    ? { events: 30_000, people: 3_000 }
    : { events: 10_000_000, people: 1_000_000 };
  const endMs = Date.now();
  const perDay = Math.floor(events / DAYS);
  for (let day = 0; day < DAYS; day++) {
    setting.signal.throwIfAborted();
    setting.progress(`events of day ${day + 1} of ${DAYS}`);
    await insertDay(warehouse, { from: day * perDay, count: perDay, startMs: endMs - (DAYS - day) * DAY_MS, people });
  }
  setting.progress("people");
  await insertPeople(warehouse, people, endMs);
  return { events: perDay * DAYS, people };
}

async function insertDay(
  warehouse: Warehouse,
  { from, count, startMs, people }: { from: number; count: number; startMs: number; people: number },
): Promise<void> {
  await warehouse.command(
    `INSERT INTO events_raw (uuid, event, distinct_id, person_id_at_ingest, timestamp, inserted_at, properties, source,
       uuid_from_caller, log_epoch, log_topic, log_partition, log_offset, log_time)
     WITH {from:UInt64} + number AS n, sipHash64(n) AS h,
       concat('user_', toString(h % {people:UInt64})) AS who, lower(hex(SHA1(who))) AS sha,
       fromUnixTimestamp64Milli(toInt64({start:Int64} + intDiv(number * ${DAY_MS}, {count:UInt64})), 'UTC') AS at
     SELECT toUUID(concat('0198c1a2-7b7e-7cc0-8f00-', lower(leftPad(hex(n), 12, '0')))),
       concat('event_', toString(toUInt32(${NAMES} * pow((h % 1000003) / 1000003, 3)))), who, ${ownId("sha")}, at, at,
       concat('{"path":"/p/', toString(h % 97), '","plan":"', ['free','pro','team'][h % 3 + 1], '","browser":"',
         ['Firefox','Chrome','Safari','Edge'][intDiv(h, 3) % 4 + 1], '","items":', toString(intDiv(h, 7) % 9),
         ',"visit":"', hex(h), '","referrer":"https://example.com/', toString(h % 1009), '","width":', toString(h % 1920),
         ',"is_new":', if(h % 2 = 0, 'true', 'false'), '}'),
       'web', true, {epoch:String}, {topic:String}, 0, n, at
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
