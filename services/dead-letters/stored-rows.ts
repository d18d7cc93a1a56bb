// Which events are rows already, by what makes an event one: its id under its api key.
import type { LogPlace } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface EventIdentity {
  /** UUID text. */
  id: string;
  apiKey: string;
}

export interface StoredRow extends LogPlace {
  /** When the log took it, milliseconds since 1970. */
  appendTimeMs: number;
}

const IDS_PER_QUERY = 1000;

export function identityKey({ id, apiKey }: EventIdentity): string {
  return `${id} ${apiKey}`;
}

/** The first row of each event, of whatever age and epoch, by `identityKey`; an event without one is absent. */
export async function storedRows(
  warehouse: Warehouse,
  events: readonly EventIdentity[],
): Promise<Map<string, StoredRow>> {
  const rows = new Map<string, StoredRow>();
  for (let at = 0; at < events.length; at += IDS_PER_QUERY) {
    const ids = events.slice(at, at + IDS_PER_QUERY).map(({ id }) => id);
    const found = await warehouse.query<
      Record<"id" | "key" | "epoch" | "topic" | "partition" | "offset" | "ms", string>
    >(
      `SELECT toString(uuid) AS id, api_key AS key, log_epoch AS epoch, log_topic AS topic, log_partition AS partition,
              toString(log_offset) AS offset, toString(toUnixTimestamp64Milli(log_time)) AS ms
       FROM events_raw WHERE uuid IN {ids:Array(UUID)} AND log_topic = {topic:String}
       ORDER BY log_time, log_offset LIMIT 1 BY uuid, api_key`,
      { params: { ids, topic: EVENTS_TOPIC } },
    );
    for (const { id, key, epoch, topic, partition, offset, ms } of found) {
      const place = { epoch, topic, partition: Number(partition), offset: Number(offset) };
      rows.set(identityKey({ id, apiKey: key }), { ...place, appendTimeMs: Number(ms) });
    }
  }
  return rows;
}
