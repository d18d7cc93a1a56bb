// What is audited: which table the rows of a topic are in, and who stores them.
import { POINT_COLUMNS } from "#lib/events/point-row.ts";
import { EVENT_COLUMNS } from "#lib/events/row.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";

export interface RowTable {
  name: string;
  /** Of an insert. */
  columns: readonly string[];
  /** True in SQL for a row whose id another record may have. */
  isFromCaller: string;
  /** In SQL: within which ids are one. */
  apiKey: string;
}

export interface AuditedTopic {
  topic: string;
  group: string;
  table: RowTable;
  /** Its records may say something about people. */
  hasIdentity: boolean;
  /** Of `millrace migrate`. */
  newEpochFlag: string;
}

export const AUDITED_EVENTS: AuditedTopic = {
  topic: EVENTS_TOPIC,
  group: CONSUMER_GROUP,
  table: { name: "events_raw", columns: EVENT_COLUMNS, isFromCaller: "uuid_from_caller", apiKey: "api_key" },
  hasIdentity: true,
  newEpochFlag: "--new-epoch",
};

export const AUDITED_POINTS: AuditedTopic = {
  topic: POINTS_TOPIC,
  group: POINTS_GROUP,
  table: { name: "points", columns: POINT_COLUMNS, isFromCaller: "true", apiKey: "''" },
  hasIdentity: false,
  newEpochFlag: "--new-points-epoch",
};
