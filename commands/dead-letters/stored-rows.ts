// Which events and points are rows already, by what makes one of them one: its id under its api key.
import type { LogPlace } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
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

const IDS_PER_QUERY = 1000;
const TABLES = [
  { topic: EVENTS_TOPIC, name: "events_raw", apiKey: "api_key" },
  { topic: POINTS_TOPIC, name: "points", apiKey: "''" },
];

export function identityKey({ topic, id, apiKey }: Identity): string {
  return `${topic} ${id} ${apiKey}`;
}

/** The first row of each, of whatever age and epoch, by `identityKey`; what has none is absent. */
export async function storedRows(warehouse: Warehouse, wanted: readonly Identity[]): Promise<Map<string, StoredRow>> {
  const rows = new Map<string, StoredRow>();
  for (const table of TABLES) {
    const own = wanted.filter(({ topic }) => topic === table.topic);
    for (let at = 0; at < own.length; at += IDS_PER_QUERY) {
      await addRows(
        rows,
        warehouse,
        table,
        own.slice(at, at + IDS_PER_QUERY).map(({ id }) => id),
      );
    }
  }
  return rows;
}

async function addRows(
  rows: Map<string, StoredRow>,
  warehouse: Warehouse,
  table: (typeof TABLES)[number],
  ids: readonly string[],
): Promise<void> {
  const found = await warehouse.query<Record<"id" | "key" | "epoch" | "topic" | "partition" | "offset" | "ms", string>>(
    `SELECT toString(uuid) AS id, ${table.apiKey} AS key, log_epoch AS epoch, log_topic AS topic, log_partition AS partition,
              toString(log_offset) AS offset, toString(toUnixTimestamp64Milli(log_time)) AS ms
       FROM ${table.name} WHERE uuid IN {ids:Array(UUID)} AND log_topic = {topic:String}
       ORDER BY log_time, log_offset LIMIT 1 BY uuid, key`,
    { params: { ids, topic: table.topic } },
  );
  for (const { id, key, epoch, topic, partition, offset, ms } of found) {
    const place = { epoch, topic, partition: Number(partition), offset: Number(offset) };
    rows.set(identityKey({ topic, id, apiKey: key }), { ...place, appendTimeMs: Number(ms) });
  }
}
