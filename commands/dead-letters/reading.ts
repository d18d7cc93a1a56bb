// A letter as what it was to be: an event or a point, by its topic.
import { create, toBinary } from "@bufbuild/protobuf";
import { PointRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { pointId } from "#lib/events/point-record.ts";
import {
  type DeadRecord,
  idOfDeadRecord,
  type LogPlace,
  originBytes,
  originMessage,
  originOf,
  readDeadRecord,
} from "#lib/events/replay-record.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { readDeadPoint } from "#lib/letters/replay-point.ts";
import type { Identity } from "#lib/letters/stored-rows.ts";
import { pointView, recordView } from "./record-view.ts";

export interface Reading {
  what: "event" | "metric";
  /** Of the event or the metric. */
  name: string;
  /** By which its row is found; undefined when it has none. */
  identity: Identity | undefined;
  /** Where it was replayed from. */
  origin: LogPlace | undefined;
  /** Its fields under the names they have everywhere else. */
  view: Record<string, unknown>;
  /** What every replay of the same letter has in its bytes. */
  mark: Uint8Array;
}

/** As far as it can be read, also when it breaks the rules; undefined when the bytes are something else. */
export function readLetter(letter: DeadRecord): Reading | undefined {
  return letter.topic === POINTS_TOPIC ? readPoint(letter) : readEvent(letter);
}

function readEvent(letter: DeadRecord): Reading | undefined {
  const record = readDeadRecord(letter.value);
  if (!record) return undefined;
  const { topic } = letter;
  const origin = originOf(record);
  return {
    ...{ what: "event", name: record.event, origin, view: recordView(record) },
    identity: { topic, id: formatUuid(idOfDeadRecord(record, letter)), apiKey: record.apiKey },
    mark: originBytes(origin ?? letter),
  };
}

function readPoint(letter: DeadRecord): Reading | undefined {
  const point = readDeadPoint(letter.value);
  if (!point) return undefined;
  const { topic } = letter;
  const origin = originOf(point);
  const hasId = point.bootId.length === 16;
  return {
    ...{ what: "metric", name: point.metric, origin, view: pointView(point) },
    identity: hasId ? { topic, id: formatUuid(pointId(point)), apiKey: "" } : undefined,
    mark: toBinary(PointRecordSchema, create(PointRecordSchema, { origin: originMessage(origin ?? letter) })),
  };
}

/** Where a record of the log was replayed from; null when it is no replay, or the bytes are something else. */
export function readOrigin(topic: string, value: Uint8Array): LogPlace | null {
  const record = topic === POINTS_TOPIC ? readDeadPoint(value) : readDeadRecord(value);
  return (record && originOf(record)) ?? null;
}
