// Whether a record's id is a row already: by the id window, and for a record that is flagged (`check_stored`: replays of
// dead letters, resumed imports) among all rows, whatever their age, epoch and partition.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { IdWindow } from "./id-window.ts";
import type { StoredOffsets, StoredPosition } from "./stored.ts";

/** Positions of the stored rows of flagged ids, by windowId; one that has none has an empty list. */
export type Positions = ReadonlyMap<string, readonly StoredPosition[]>;

/** The row that makes a record a duplicate. */
export interface First {
  /** "partition:offset", after the epoch when it is an older one. */
  place: string;
  /** Its record, where that is at hand. */
  record: StoredRecord | undefined;
  position: StoredPosition;
}

export interface FirstPositions {
  /**
   * Of the row that makes this record a duplicate. `own` are the records before it in its range, by windowId; `earlier` is
   * for a flagged record only.
   */
  of(
    id: string,
    record: StoredRecord,
    own: ReadonlyMap<string, StoredRecord>,
    earlier: readonly StoredPosition[] | undefined,
  ): First | undefined;
  /** Looks up flagged ids: UUID texts by windowId. */
  lookUp(flagged: ReadonlyMap<string, string>): Promise<Positions>;
}

export function createFirstPositions(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): FirstPositions {
  return {
    of(id, record, own, earlier) {
      const neighbour = own.get(id);
      // A flagged record is a duplicate however long ago its row was, so the window's bounds are not for it.
      const isNear = neighbour !== undefined && (earlier !== undefined || window.covers(neighbour, record));
      const near = isNear ? neighbour.offset : window.firstOffset(id, record.offset, record.appendTimeMs);
      if (near !== undefined) {
        const position = { epoch: origin.epoch, partition: origin.partition, offset: near };
        return { place: `${origin.partition}:${near}`, record: isNear ? neighbour : undefined, position };
      }
      // On a replay the record's own row may be among the stored ones; that is no other event.
      const far = earlier?.find(
        (p) => p.epoch !== origin.epoch || p.partition !== origin.partition || p.offset < record.offset,
      );
      if (!far) return undefined;
      const place = `${far.epoch === origin.epoch ? "" : `${far.epoch}:`}${far.partition}:${far.offset}`;
      return { place, record: undefined, position: far };
    },
    async lookUp(flagged) {
      const positions = new Map<string, readonly StoredPosition[]>();
      for (const id of flagged.keys()) positions.set(id, []);
      for (const [id, found] of await stored.positionsOf([...flagged.values()])) positions.set(id, found);
      return positions;
    },
  };
}
