// Values of the person's events are in the roll-up (points_5m) as well: the slots they arrived in are computed again
// without them. Slots that are open need nothing, since they are computed from what is stored when they are closed.
import type { RowOrigin } from "#lib/events/row.ts";
import type { Erasure } from "#lib/identity/erasures.ts";
import { type DifferingSlot, differingSlots, recomputeSlots, SLOT_MS } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { STATEMENT_SECONDS_MAX } from "./mutation.ts";

/** Rows must be hidden before. */
export async function eraseFromRollup(warehouse: Warehouse, erasure: Erasure): Promise<void> {
  for (const { slotMs, ...origin } of await slotsLeft(warehouse, erasure)) {
    await recomputeSlots(warehouse, { ...origin, fromMs: slotMs, toMs: slotMs + SLOT_MS });
  }
}

/** Closed slots with erased offsets that do not say what the events that are left make. */
export async function slotsLeft(warehouse: Warehouse, erasure: Erasure): Promise<(DifferingSlot & RowOrigin)[]> {
  const left: (DifferingSlot & RowOrigin)[] = [];
  for (const { slots, ...origin } of await touchedSlots(warehouse, erasure)) {
    const range = { ...origin, fromMs: slots[0] ?? 0, toMs: (slots.at(-1) ?? 0) + SLOT_MS };
    const differing = await differingSlots(warehouse, range, new Set(slots));
    left.push(...differing.map((slot) => ({ ...slot, ...origin })));
  }
  return left;
}

/** Slots in which erased events arrived, milliseconds, by partition. */
async function touchedSlots(
  warehouse: Warehouse,
  { id, topic }: Erasure,
): Promise<(RowOrigin & { slots: readonly number[] })[]> {
  const rows = await warehouse.query<{ epoch: string; partition: number; slots: number[] }>(
    `SELECT log_epoch AS epoch, log_partition AS partition,
            arraySort(groupUniqArray(toUnixTimestamp(toStartOfFiveMinutes(log_time)))) AS slots
     FROM log_outcomes WHERE outcome = 'erased' AND detail = toString({erasure:UUID}) AND log_topic = {topic:String}
     GROUP BY epoch, partition`,
    { params: { erasure: id, topic }, maxSeconds: STATEMENT_SECONDS_MAX },
  );
  return rows.map(({ epoch, partition, slots }) => ({
    ...{ epoch, topic, partition: Number(partition) },
    slots: slots.map((seconds) => Number(seconds) * 1000),
  }));
}
