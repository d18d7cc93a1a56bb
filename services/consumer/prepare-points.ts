// Records of a contiguous range of points → what each of them becomes. Every point has an id that its relay keeps when it
// sends it again.
import type { PointRecord } from "#gen/millrace/log/v1/log_pb.ts";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodePoint, pointId } from "#lib/events/point-record.ts";
import { createPointRows } from "#lib/events/point-row.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { createFirstPositions, type Positions } from "#lib/ledger/first-position.ts";
import { type IdWindow, windowId } from "#lib/ledger/id-window.ts";
import type { StoredOffsets } from "#lib/ledger/stored.ts";
import {
  addAborted,
  addDeadLetter,
  type Known,
  momentOf,
  nothingPrepared,
  type Prepared,
  type Preparer,
  poisonOf,
  type Refusal,
} from "./prepare.ts";

export function createPointPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer {
  const rowOf = createPointRows(origin);
  const first = createFirstPositions(origin, window, stored);

  /** Undefined when a point is flagged to be looked up and `earlier` is missing. */
  function decide(
    records: readonly StoredRecord[],
    { fates, refusals }: Known,
    earlier?: Positions,
  ): Prepared | undefined {
    const prepared = nothingPrepared();
    const own = new Map<string, StoredRecord>();
    const rows: string[] = [];
    for (const record of records) {
      const { offset, appendTimeMs } = record;
      const fate = fates?.get(offset);
      if (fate !== undefined && fate !== "row") continue;
      if (record.aborted !== undefined) {
        if (fate === undefined) addAborted(prepared, record);
        continue;
      }
      const refusal = refusals?.get(offset);
      const point = refusal ?? read(record);
      if ("errorClass" in point) {
        if (fate === undefined) addDeadLetter(prepared, record, point);
        continue;
      }
      const id = windowId(pointId(point), "");
      if (fate === undefined) {
        if (point.checkStored && !earlier) return undefined;
        // A relay that sends another point under an id would have made it so: nothing is compared.
        const earliest = first.of(id, record, own, point.checkStored ? earlier?.get(id) : undefined);
        if (earliest) {
          prepared.outcomes.push({ ...momentOf(record), outcome: "duplicate", detail: earliest.place });
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
  }

  function lookUp(records: readonly StoredRecord[], { fates }: Known): Promise<Positions> {
    const flagged = new Map<string, string>();
    for (const record of records) {
      if (fates?.has(record.offset)) continue;
      const point = read(record);
      if ("errorClass" in point || !point.checkStored) continue;
      const id = pointId(point);
      flagged.set(windowId(id, ""), formatUuid(id));
    }
    return first.lookUp(flagged);
  }

  return {
    async prepare(records, known = {}) {
      // As for events: flagged records are rare, so that looking for them first would cost more than deciding twice.
      return decide(records, known) ?? (decide(records, known, await lookUp(records, known)) as Prepared);
    },
  };
}

/** The point, or why it can be none. */
function read({ value }: StoredRecord): PointRecord | Refusal {
  let point: PointRecord | undefined;
  const poison = poisonOf(() => {
    point = decodePoint(value);
  });
  return poison ?? (point as PointRecord);
}
