// Points of hosts for the cases that ask for them, made by ClickHouse itself and rolled up as the consumer does it.
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { noteNextSlot } from "#lib/points/progress.ts";
import { computeSlots } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Setting } from "../result.ts";

export const HOSTS = 50;
export const METRICS = 20;
const DAY_MS = 86_400_000;
/** Computed by one statement; the consumer computes one slot at a time. */
const COMPUTED_MS = 6 * 3_600_000;
const ORIGIN = { epoch: "bench0000", topic: POINTS_TOPIC, partition: 0 };

/** A value of every metric of every host, so many times from `fromMs` on, appended a second after it was measured. */
export async function insertPolls(warehouse: Warehouse, fromMs: number, polls: number, pollMs: number): Promise<void> {
  const series = HOSTS * METRICS;
  await warehouse.command(
    `INSERT INTO points (uuid, metric, value, tags, time, inserted_at, relay_id, collector, log_epoch, log_topic,
       log_partition, log_offset, log_time)
     WITH fromUnixTimestamp64Milli({from:Int64} + intDiv(number, ${series}) * {poll:Int64}, 'UTC') AS at,
       concat('host-', toString(intDiv(number, ${METRICS}) % ${HOSTS})) AS host
     SELECT generateUUIDv4(), concat('metric_', toString(number % ${METRICS})), randCanonical() * 100,
       map('dc', if(endsWith(host, '7'), 'eu', 'us'), 'host', host), at, at + INTERVAL 1 SECOND, host, 'c',
       {epoch:String}, {topic:String}, 0, {from:Int64} * ${series} + number, at + INTERVAL 1 SECOND
     FROM numbers(${series * polls})`,
    { params: { from: fromMs, poll: pollMs, epoch: ORIGIN.epoch, topic: ORIGIN.topic }, maxSeconds: 600 },
  );
}

/** Points of each poll of so many days until `endMs`, the begin of a slot; all of them rolled up. */
export async function fillPoints(
  warehouse: Warehouse,
  { endMs, days, pollMs }: { endMs: number; days: number; pollMs: number },
  setting: Setting,
): Promise<{ slotMs: number }> {
  const startMs = endMs - days * DAY_MS;
  for (let day = 0; day < days; day++) {
    setting.signal.throwIfAborted();
    setting.progress(`points of day ${day + 1} of ${days}`);
    await insertPolls(warehouse, startMs + day * DAY_MS, DAY_MS / pollMs, pollMs);
  }
  const begun = performance.now();
  await rollUp(warehouse, ORIGIN, { startMs, endMs }, setting);
  return { slotMs: (performance.now() - begun) / ((endMs - startMs) / 300_000) };
}

/** Of points, or of the values of events. */
export async function rollUp(
  warehouse: Warehouse,
  origin: typeof ORIGIN,
  { startMs, endMs }: { startMs: number; endMs: number },
  setting: Setting,
): Promise<void> {
  for (let fromMs = startMs; fromMs < endMs; fromMs += COMPUTED_MS) {
    setting.signal.throwIfAborted();
    setting.progress(`roll-up of ${origin.topic}, ${new Date(fromMs).toISOString()}`);
    await computeSlots(warehouse, { ...origin, fromMs, toMs: Math.min(endMs, fromMs + COMPUTED_MS) });
  }
  await noteNextSlot(warehouse, origin, endMs, endMs);
}
