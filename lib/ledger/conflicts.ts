// Which duplicates are another event under an id that was used before: each is compared with the first of its id. A
// function of the log and of the row of the first, so that a replay finds the same.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { createRecordScanner } from "#lib/events/record-scanner.ts";
import { isSameEvent, type Said, saidIn } from "#lib/events/said.ts";
import { isTooSlow } from "#lib/warehouse/warehouse-errors.ts";
import type { First } from "./first-position.ts";
import type { StoredOffsets, StoredPosition } from "./stored.ts";

/** A record whose id a row has already. */
export interface Repeat {
  record: StoredRecord;
  first: First;
  /** "duplicate", until it is found to be a conflict. */
  outcome: { outcome: string };
}

/** About 35 kB of offsets in the URL. */
const OFFSETS_PER_LOOKUP_MAX = 2500;

/** Where the row of the first is gone (erased, or past its retention) nothing tells, and the duplicate stays one. */
export function createConflictFinder(stored: StoredOffsets): (repeats: readonly Repeat[]) => Promise<void> {
  const scanner = createRecordScanner();
  let perLookup = OFFSETS_PER_LOOKUP_MAX;

  function saidOf({ value }: StoredRecord): Said {
    scanner.scan(value);
    return saidIn(scanner);
  }

  function compareNear(repeats: readonly Repeat[]): void {
    // One large record may have many small ones after it.
    const known = new Map<StoredRecord, Said>();
    for (const { record, first, outcome } of repeats) {
      if (!first.record) continue;
      const earlier = known.get(first.record) ?? saidOf(first.record);
      known.set(first.record, earlier);
      if (!isSameEvent(earlier, saidOf(record))) outcome.outcome = "conflict";
    }
  }

  async function compareStored(repeats: readonly Repeat[]): Promise<void> {
    const [one] = repeats;
    if (!one) return;
    const offsets = new Set(repeats.map(({ first }) => first.position.offset));
    const said = await stored.said(one.first.position, [...offsets]);
    for (const { record, first, outcome } of repeats) {
      const earlier = said.get(first.position.offset);
      if (earlier && !isSameEvent(earlier, saidOf(record))) outcome.outcome = "conflict";
    }
  }

  return async (repeats) => {
    if (repeats.length === 0) return;
    compareNear(repeats);
    for (const group of groupsOf(repeats.filter(({ first }) => !first.record))) {
      for (let at = 0; at < group.length; ) {
        const some = group.slice(at, at + perLookup);
        try {
          await compareStored(some);
        } catch (error) {
          if (!isTooSlow(error) || some.length === 1) throw error;
          perLookup = Math.ceil(some.length / 2);
          continue;
        }
        at += some.length;
      }
    }
  };
}

/** By epoch and partition of the first; nearly all are of the partition itself. */
function groupsOf(repeats: readonly Repeat[]): Iterable<Repeat[]> {
  const groups = new Map<string, Repeat[]>();
  for (const repeat of repeats) {
    const key = placeOf(repeat.first.position);
    const group = groups.get(key);
    if (group) group.push(repeat);
    else groups.set(key, [repeat]);
  }
  return groups.values();
}

function placeOf({ epoch, partition }: StoredPosition): string {
  return `${partition}:${epoch}`;
}
