// Which events and points are rows already, by what makes one of them one: its id under its api key.
import type { LogPlace } from "#lib/events/replay-record.ts";
import { STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { createIdLookup } from "#lib/warehouse/id-lookup.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Identity {
  topic: string;
  /** UUID text. */
  id: string;
  apiKey: string;
}

export interface StoredRow extends LogPlace {
  /** When the log took it, milliseconds since 1970. */
  appendTimeMs: number;
}

export function identityKey({ topic, id, apiKey }: Identity): string {
  return `${topic} ${id} ${apiKey}`;
}

/** A row of each, of whatever age and epoch, by `identityKey`; what has none is absent. */
export async function storedRows(warehouse: Warehouse, wanted: readonly Identity[]): Promise<Map<string, LogPlace>> {
  const rows = new Map<string, LogPlace>();
  for (const { topic, table } of STORED_TOPICS) {
    const ids = wanted.flatMap((identity) => (identity.topic === topic ? [identity.id] : []));
    for (const { uuid, apiKey, epoch, partition, offset } of await createIdLookup(warehouse, table)(ids)) {
      const key = identityKey({ topic, id: uuid, apiKey });
      const known = rows.get(key);
      if (!known || offset < known.offset) rows.set(key, { epoch, topic, partition, offset });
    }
  }
  return rows;
}

/** Its first row, of whatever age and epoch. */
export async function firstRow(warehouse: Warehouse, { topic, id, apiKey }: Identity): Promise<StoredRow | undefined> {
  const table = STORED_TOPICS.find((stored) => stored.topic === topic)?.table;
  if (!table) return undefined;
  const [row] = await warehouse.query<Record<"epoch" | "partition" | "offset" | "ms", string>>(
    `SELECT log_epoch AS epoch, log_partition AS partition, toString(log_offset) AS offset,
            toString(toUnixTimestamp64Milli(log_time)) AS ms
     FROM ${table.name} WHERE uuid = {id:UUID} AND ${table.apiKey} = {apiKey:String} AND log_topic = {topic:String}
     ORDER BY log_time, log_offset LIMIT 1`,
    { params: { id, apiKey, topic } },
  );
  if (!row) return undefined;
  const place = { epoch: row.epoch, topic, partition: Number(row.partition), offset: Number(row.offset) };
  return { ...place, appendTimeMs: Number(row.ms) };
}
