// log_epochs: which incarnation of a topic is being written, for logs that do not keep that themselves (Kafka).
import { randomUUID } from "node:crypto";
import type { Warehouse } from "./warehouse.ts";

/** The topic's newest epoch; undefined when none was ever recorded. */
export async function readEpoch(warehouse: Warehouse, topic: string): Promise<string | undefined> {
  const rows = await warehouse.query<{ epoch: string }>(
    "SELECT log_epoch AS epoch FROM log_epochs WHERE log_topic = {topic:String} ORDER BY created_at DESC, epoch LIMIT 1",
    { params: { topic } },
  );
  return rows[0]?.epoch;
}

/** Begins a new incarnation and resolves with its epoch. */
export async function recordEpoch(warehouse: Warehouse, topic: string): Promise<string> {
  const epoch = randomUUID();
  await warehouse.insert({
    table: "log_epochs",
    columns: ["log_topic", "log_epoch"],
    rows: Buffer.from(`${JSON.stringify([topic, epoch])}\n`),
    token: epoch,
  });
  return epoch;
}
