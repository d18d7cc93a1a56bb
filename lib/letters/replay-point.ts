// A point's record rebuilt. It keeps its id and is flagged, so that the consumer looks it up among all rows.
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type PointRecord, PointRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodePoint, pointId } from "#lib/events/point-record.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { type DeadRecord, originMessage, type ReplayChanges } from "#lib/events/replay-record.ts";

export interface PointReplay {
  value: Uint8Array;
  /** UUID text. */
  id: string;
  metric: string;
}

/** What `--set` can change of a point. */
const OWN_FIELDS = new Set(["value", "time"]);

/** The record to append in the dead one's stead, under the dead one's key; a text when there can be none. */
export function makePointReplay(dead: DeadRecord, changes: ReplayChanges): PointReplay | string {
  const { property, ...fields } = changes;
  const foreign = Object.entries(fields).find(([name, value]) => value !== undefined && !OWN_FIELDS.has(name))?.[0];
  if (foreign !== undefined || property.size > 0) {
    return `${foreign ?? "properties"}: is not a field of a point; value and time can be set`;
  }
  const point = readDeadPoint(dead.value);
  if (!point) return "value: is not a PointRecord message, so there is no point to replay";
  if (changes.value === null) return "value: a point has one";
  if (changes.value !== undefined) point.value = changes.value;
  if (changes.time) point.timeUs = BigInt(changes.time.us);
  point.checkStored = true;
  point.origin ??= originMessage(dead);
  const value = toBinary(PointRecordSchema, point);
  try {
    // As the consumer will read it, so that no letter is replayed only to die again.
    decodePoint(value);
  } catch (error) {
    if (error instanceof PoisonRecordError) return `could not be stored: ${error.message}`;
    throw error;
  }
  return { value, id: formatUuid(pointId(point)), metric: point.metric };
}

/** Undefined when the bytes are no PointRecord. */
export function readDeadPoint(value: Uint8Array): PointRecord | undefined {
  try {
    return fromBinary(PointRecordSchema, value);
  } catch {
    // The decoder throws errors of several kinds, and all of them say that these bytes are something else.
    return undefined;
  }
}
