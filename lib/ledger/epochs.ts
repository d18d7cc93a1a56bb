// Which incarnation of a topic is being written. A log may know it itself (SQLite); of the others it is in log_epochs.
import { randomUUID } from "node:crypto";
import type { LogReader } from "#lib/eventlog/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

/** The topic's epoch; undefined when none was ever recorded. */
export async function currentEpoch(log: LogReader, warehouse: Warehouse, topic: string): Promise<string | undefined> {
  return (await log.epoch()) ?? (await recordedEpoch(warehouse, topic));
}

/** Of logs that do not know it themselves. */
export async function recordedEpoch(warehouse: Warehouse, topic: string): Promise<string | undefined> {
  return (await newestOf(warehouse, topic))?.epoch;
}

/**
 * Begins a new incarnation, unless somebody else is just doing so, and resolves with the epoch that counts. `isWanted` is
 * told the epoch there is, and says whether another one is to begin.
 */
export async function recordEpoch(
  warehouse: Warehouse,
  topic: string,
  isWanted: (present: string | undefined) => boolean,
): Promise<{ epoch: string; isNew: boolean }> {
  const present = await newestOf(warehouse, topic);
  if (present !== undefined && !isWanted(present.epoch)) return { epoch: present.epoch, isNew: false };
  const own = randomUUID();
  await warehouse.insert({
    table: "log_epochs",
    columns: ["log_topic", "log_epoch", "generation"],
    rows: Buffer.from(`${JSON.stringify([topic, own, (present?.generation ?? 0) + 1])}\n`),
    token: own,
  });
  const epoch = (await newestOf(warehouse, topic))?.epoch ?? own;
  return { epoch, isNew: epoch === own };
}

/** Of the highest generation the one that was recorded first, so that a second one of it changes nothing. */
async function newestOf(
  warehouse: Warehouse,
  topic: string,
): Promise<{ epoch: string; generation: number } | undefined> {
  const [row] = await warehouse.query<{ epoch: string; g: number }>(
    `SELECT log_epoch AS epoch, generation AS g FROM log_epochs WHERE log_topic = {topic:String}
     ORDER BY generation DESC, toUnixTimestamp64Micro(created_at) * if(generation = 0, -1, 1), epoch LIMIT 1`,
    { params: { topic } },
  );
  return row && { epoch: row.epoch, generation: Number(row.g) };
}
