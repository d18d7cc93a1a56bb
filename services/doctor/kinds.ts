// The topics whose records become rows, with who stores them and where.
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";

export interface Kind {
  topic: string;
  group: string;
  table: string;
  /** Of `millrace migrate`, for a topic that was deleted and made again. */
  newEpochFlag: string;
}

export const KINDS: readonly Kind[] = [
  { topic: EVENTS_TOPIC, group: CONSUMER_GROUP, table: "events_raw", newEpochFlag: "--new-epoch" },
  { topic: POINTS_TOPIC, group: POINTS_GROUP, table: "points", newEpochFlag: "--new-points-epoch" },
];
