// What the consumer lands: which records of which topic become rows of which table. All else is the same for every topic.
import type { RowOrigin } from "#lib/events/row.ts";
import type { IdWindow } from "#lib/ledger/id-window.ts";
import type { StoredOffsets } from "#lib/ledger/stored.ts";
import { STORED_EVENTS, STORED_POINTS, type StoredTopic } from "#lib/ledger/stored-topics.ts";
import { createEventPreparer, type Preparer } from "./prepare.ts";
import { createPointPreparer } from "./prepare-points.ts";

export interface TopicKind extends StoredTopic {
  createPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer;
  /** Its rows are rolled up in points_5m. */
  isRolledUp: boolean;
}

export const EVENTS: TopicKind = { ...STORED_EVENTS, createPreparer: createEventPreparer, isRolledUp: true };

export const POINTS: TopicKind = { ...STORED_POINTS, createPreparer: createPointPreparer, isRolledUp: true };
