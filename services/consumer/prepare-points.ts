// Records of a contiguous range of points → what each of them becomes. Every point has an id that its relay keeps when it
// sends it again.
import type { PointRecord } from "#gen/millrace/log/v1/log_pb.ts";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { decodePoint, pointId } from "#lib/events/point-record.ts";
import { createPointRows } from "#lib/events/point-row.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { type IdWindow, windowId } from "./id-window.ts";
import {
  addDeadLetter,
  type Known,
  momentOf,
  nothingPrepared,
  type Prepared,
  type Preparer,
  poisonOf,
} from "./prepare.ts";

export function createPointPreparer(origin: RowOrigin, window: IdWindow): Preparer {
  const rowOf = createPointRows(origin);

  return {
    async prepare(records: readonly StoredRecord[], { fates, refusals }: Known = {}): Promise<Prepared> {
      const prepared = nothingPrepared();
      const own = new Map<string, StoredRecord>();
      const rows: string[] = [];
      for (const record of records) {
        const { offset, appendTimeMs } = record;
        const fate = fates?.get(offset);
        if (fate !== undefined && fate !== "row") continue;
        let point: PointRecord | undefined;
        const poison =
          poisonOf(() => {
            point = decodePoint(record.value);
          }) ?? refusals?.get(offset);
        if (poison || !point) {
          if (poison && fate === undefined) addDeadLetter(prepared, record, poison);
          continue;
        }
        const id = windowId(pointId(point), "");
        if (fate === undefined) {
          const neighbour = own.get(id);
          const isNear = neighbour !== undefined && window.covers(neighbour, record);
          const first = isNear ? neighbour.offset : window.firstOffset(id, offset, appendTimeMs);
          if (first !== undefined) {
            const detail = `${origin.partition}:${first}`;
            prepared.outcomes.push({ ...momentOf(record), outcome: "duplicate", detail });
            continue;
          }
          rows.push(rowOf(point, offset, appendTimeMs));
        }
        own.set(id, record);
        prepared.ids.push({ id, ...momentOf(record) });
      }
      prepared.rowCount = rows.length;
      prepared.rows = Buffer.from(rows.join(""));
      return prepared;
    },
  };
}
