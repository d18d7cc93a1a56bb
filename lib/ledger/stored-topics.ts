// The topics whose records become rows: who stores them, and in which table.
import { POINT_COLUMNS } from "#lib/events/point-row.ts";
import { EVENT_COLUMNS } from "#lib/events/row.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";

export interface RowTable {
  name: string;
  /** Of an insert. */
  columns: readonly string[];
  /** True in SQL for a row whose id was made by a caller and may repeat. */
  isFromCaller: string;
  /** In SQL: within which ids are one. */
  apiKey: string;
  /** As lib/warehouse/id-lookup.ts has it. */
  hasIdProjection: boolean;
}

export interface StoredTopic {
  topic: string;
  group: string;
  table: RowTable;
  /** Its records may say something about people. */
  hasIdentity: boolean;
  /** Of `millrace migrate`, for a topic that was deleted and made again. */
  newEpochFlag: string;
}

export const STORED_EVENTS: StoredTopic = {
  topic: EVENTS_TOPIC,
  group: CONSUMER_GROUP,
  table: {
    name: "events_raw",
    columns: EVENT_COLUMNS,
    isFromCaller: "uuid_from_caller",
    apiKey: "api_key",
    hasIdProjection: true,
  },
  hasIdentity: true,
  newEpochFlag: "--new-epoch",
};

export const STORED_POINTS: StoredTopic = {
  topic: POINTS_TOPIC,
  group: POINTS_GROUP,
  table: { name: "points", columns: POINT_COLUMNS, isFromCaller: "true", apiKey: "''", hasIdProjection: false },
  hasIdentity: false,
  newEpochFlag: "--new-points-epoch",
};

export const STORED_TOPICS: readonly StoredTopic[] = [STORED_EVENTS, STORED_POINTS];
