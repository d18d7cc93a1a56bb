// Caller-made ids of the recent rows of one partition: a record whose id became a row at a lower offset is a retry.
// The window is a function of the log alone (append times and offsets), so that a replay decides as the first try did.

export interface IdWindowBounds {
  /** Difference of two records' append times beyond which they are two events, milliseconds. */
  ageMsMax: number;
  /** Difference of two records' offsets beyond which they are two events. */
  offsetsMax: number;
}

interface Entry {
  offset: number;
  appendTimeMs: number;
}

export interface IdWindow {
  /** Offset of the row with this id below `offset` and within the window; undefined when there is none. */
  firstOffset(id: string, offset: number, appendTimeMs: number): number | undefined;
  /** Rows are added in the order of their offsets. */
  add(id: string, offset: number, appendTimeMs: number): void;
  readonly size: number;
}

export function createIdWindow(bounds: IdWindowBounds): IdWindow {
  // Insertion order is offset order, so that the oldest entries come first.
  const entries = new Map<string, Entry>();

  function isWithin(entry: Entry, offset: number, appendTimeMs: number): boolean {
    return offset - entry.offset <= bounds.offsetsMax && appendTimeMs - entry.appendTimeMs <= bounds.ageMsMax;
  }

  return {
    get size() {
      return entries.size;
    },
    firstOffset(id, offset, appendTimeMs) {
      const entry = entries.get(id);
      return entry && entry.offset < offset && isWithin(entry, offset, appendTimeMs) ? entry.offset : undefined;
    },
    add(id, offset, appendTimeMs) {
      // A later row of the same id, outside the old one's window, takes its place at the end.
      entries.delete(id);
      entries.set(id, { offset, appendTimeMs });
      for (const [oldest, entry] of entries) {
        if (isWithin(entry, offset, appendTimeMs)) break;
        entries.delete(oldest);
      }
    },
  };
}

/** Ids are unique within one api key. */
export function windowId(uuid: string, apiKey: string): string {
  return `${uuid} ${apiKey}`;
}
