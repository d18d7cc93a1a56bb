// A point record as a row of `points`.
import type { PointRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "./ids.ts";
import { pointId } from "./point-record.ts";
import type { RowOrigin } from "./row.ts";
import { createTimeFormatter } from "./time.ts";

/** Columns of `points` in the order in which PointRows lists a row's values. */
export const POINT_COLUMNS = [
  "uuid",
  "metric",
  "value",
  "tags",
  "time",
  "inserted_at",
  "relay_id",
  "collector",
  "log_offset",
  "log_time",
  "log_epoch",
  "log_topic",
  "log_partition",
] as const;

/** Row mapper of one partition: JSONCompactEachRow, a JSON array of POINT_COLUMNS and a line break. */
export type PointRows = (point: PointRecord, offset: number, appendTimeMs: number) => string;

export function createPointRows({ epoch, topic, partition }: RowOrigin): PointRows {
  const tail = `${JSON.stringify(epoch)},${JSON.stringify(topic)},${partition}]\n`;
  const formatTime = createTimeFormatter();
  const formatReceived = createTimeFormatter();
  const formatAppended = createTimeFormatter();
  return (point, offset, appendTimeMs) =>
    `["${formatUuid(pointId(point))}",${JSON.stringify(point.metric)},${point.value},${tagsText(point.tags)},` +
    `"${formatTime(Number(point.timeUs))}","${formatReceived(Number(point.receivedUs))}",${JSON.stringify(point.relayId)},` +
    `${JSON.stringify(point.collector)},${offset},"${formatAppended(appendTimeMs * 1000)}",${tail}`;
}

/** In the order of the keys: equal sets of tags must be equal maps. An object would put keys that are numbers first. */
function tagsText(tags: Readonly<Record<string, string>>): string {
  const keys = Object.keys(tags).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(tags[key])}`).join(",")}}`;
}
