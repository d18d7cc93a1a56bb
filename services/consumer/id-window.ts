// Caller-made ids of the recent rows of one partition: a record whose id became a row at a lower offset is a retry.
// The window is a function of the log alone (append times and offsets), so that a replay decides as the first try did.

export interface IdWindowBounds {
  /** Difference of two records' append times beyond which they are two events, milliseconds. */
  ageMsMax: number;
  /** Difference of two records' offsets beyond which they are two events. */
  offsetsMax: number;
}

/** Where and when the log took a record. */
export interface Moment {
  offset: number;
  appendTimeMs: number;
}

export interface IdWindow {
  /** Offset of the row with this id below `offset` and within the window; undefined when there is none. */
  firstOffset(id: string, offset: number, appendTimeMs: number): number | undefined;
  /** True when the second of two records with the same id counts as a retry of the first. */
  covers(first: Moment, second: Moment): boolean;
  /** Rows are added in the order of their offsets. */
  add(id: string, offset: number, appendTimeMs: number): void;
  readonly size: number;
}

export function createIdWindow(bounds: IdWindowBounds): IdWindow {
  // Insertion order is offset order, so that the oldest entries come first.
  const entries = new Map<string, Moment>();

  function covers(first: Moment, second: Moment): boolean {
    return (
      first.offset < second.offset &&
      second.offset - first.offset <= bounds.offsetsMax &&
      second.appendTimeMs - first.appendTimeMs <= bounds.ageMsMax
    );
  }

  /** Append times may step back a little when another broker takes the partition over, so age alone has a margin. */
  function isPast(entry: Moment, newest: Moment): boolean {
    return (
      newest.offset - entry.offset > bounds.offsetsMax ||
      newest.appendTimeMs - entry.appendTimeMs > bounds.ageMsMax + APPEND_TIME_MARGIN_MS
    );
  }

  return {
    get size() {
      return entries.size;
    },
    covers,
    firstOffset(id, offset, appendTimeMs) {
      const entry = entries.get(id);
      return entry && covers(entry, { offset, appendTimeMs }) ? entry.offset : undefined;
    },
    add(id, offset, appendTimeMs) {
      // A later row of the same id, outside the old one's window, takes its place at the end.
      entries.delete(id);
      const newest = { offset, appendTimeMs };
      entries.set(id, newest);
      for (const [oldest, entry] of entries) {
        if (!isPast(entry, newest)) break;
        entries.delete(oldest);
      }
    },
  };
}

/** How far append times of one partition, and the clocks of its readers, may be apart. */
export const APPEND_TIME_MARGIN_MS = 600_000;

/** Ids are unique within one api key. */
export function windowId(uuid: string, apiKey: string): string {
  return `${uuid} ${apiKey}`;
}
