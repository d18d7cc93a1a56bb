// What the consumer lands: which records of which topic become rows of which table. All else is the same for every topic.
import type { RowOrigin } from "#lib/events/row.ts";
import { STORED_EVENTS, STORED_POINTS, type StoredTopic } from "#lib/events/stored-topics.ts";
import type { IdWindow } from "./id-window.ts";
import { createEventPreparer, type Preparer } from "./prepare.ts";
import { createPointPreparer } from "./prepare-points.ts";
import type { StoredOffsets } from "./stored.ts";

export interface TopicKind extends StoredTopic {
  createPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer;
  /** Its rows are rolled up in points_5m. */
  isRolledUp: boolean;
}

export const EVENTS: TopicKind = { ...STORED_EVENTS, createPreparer: createEventPreparer, isRolledUp: true };

export const POINTS: TopicKind = { ...STORED_POINTS, createPreparer: createPointPreparer, isRolledUp: true };
