// What the consumer lands: which records of which topic become rows of which table. All else is the same for every topic.
import { POINT_COLUMNS } from "#lib/events/point-row.ts";
import { EVENT_COLUMNS, type RowOrigin } from "#lib/events/row.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { IdWindow } from "./id-window.ts";
import { createEventPreparer, type Preparer } from "./prepare.ts";
import { createPointPreparer } from "./prepare-points.ts";
import type { RowTable, StoredOffsets } from "./stored.ts";

export interface TopicKind {
  topic: string;
  group: string;
  table: RowTable;
  createPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer;
  /** Its records may say something about people. */
  hasIdentity: boolean;
  /** Its rows are rolled up in points_5m. */
  isRolledUp: boolean;
  /** Of `millrace migrate`, for a topic that was deleted and made again. */
  newEpochFlag: string;
}

export const EVENTS: TopicKind = {
  topic: EVENTS_TOPIC,
  group: CONSUMER_GROUP,
  table: { name: "events_raw", columns: EVENT_COLUMNS, isFromCaller: "uuid_from_caller", apiKey: "api_key" },
  createPreparer: createEventPreparer,
  hasIdentity: true,
  isRolledUp: true,
  newEpochFlag: "--new-epoch",
};

export const POINTS: TopicKind = {
  topic: POINTS_TOPIC,
  group: POINTS_GROUP,
  table: { name: "points", columns: POINT_COLUMNS, isFromCaller: "true", apiKey: "''" },
  createPreparer: createPointPreparer,
  hasIdentity: false,
  isRolledUp: true,
  newEpochFlag: "--new-points-epoch",
};
