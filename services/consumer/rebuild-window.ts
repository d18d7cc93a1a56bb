// Ids of a partition's recent rows, read back from ClickHouse before anything is stored: readiness and the log say so.
import type { Assignment } from "#lib/eventlog/log.ts";
import type { TakeId } from "#lib/ledger/caller-ids.ts";
import { APPEND_TIME_MARGIN_MS, type IdWindow, type IdWindowBounds } from "#lib/ledger/id-window.ts";
import type { StoredOffsets } from "#lib/ledger/stored.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import { askPatiently, type PatienceOptions } from "./patience.ts";
import { readRange } from "./read-range.ts";

export interface RebuildDeps {
  assignment: Assignment;
  stored: StoredOffsets;
  window: IdWindow;
  /** Bounds of the window. */
  idWindow: IdWindowBounds;
  clock: Clock;
  logger: Logger;
  patience: PatienceOptions;
  /** The partition stores nothing yet, because of what it does first; undefined: that is done. */
  onRebuilding(assignment: Assignment, what: string | undefined): void;
}

/** Each question costs ClickHouse a look at the positions of all recent rows, and its answer fits in memory. */
const OFFSETS_PER_QUERY = 500_000;

/**
 * Of the rows before offset `next`. The window is as old as the next record allows: the same rows are in it that were when
 * it was first decided. `end` is the log's end, `headMs` when the last stored record was appended.
 */
export async function rebuildWindow(deps: RebuildDeps, next: number, end: number, headMs = 0): Promise<void> {
  const { assignment, idWindow, onRebuilding } = deps;
  const from = Math.max(0, next - idWindow.offsetsMax);
  if (from === next) return;
  onRebuilding(assignment, "reads the ids of recent rows, by which it knows what was sent twice");
  try {
    const [record] = next < end ? await readRange(assignment, { from: next, to: next }) : [];
    // No record yet: one that comes after the last stored one can only see less of the window. Our own clock may be wrong.
    const sinceMs = Math.max(0, (record?.appendTimeMs ?? headMs) - idWindow.ageMsMax - APPEND_TIME_MARGIN_MS);
    await readIds(deps, from, next, sinceMs);
  } finally {
    onRebuilding(assignment, undefined);
  }
}

async function readIds(deps: RebuildDeps, from: number, next: number, sinceMs: number): Promise<void> {
  const { stored, window, clock, logger, patience } = deps;
  logger.info({ from, to: next - 1 }, "reading the ids of recent rows");
  const begun = clock.monotonicMs();
  for (let at = from; at < next; ) {
    const to = Math.min(next, at + OFFSETS_PER_QUERY);
    const take: TakeId = (uuid, apiKey, offset, appendTimeMs) => {
      window.addUuid(uuid, apiKey, offset, appendTimeMs);
      // An answer that breaks off is asked for from here on.
      at = offset + 1;
    };
    // At most so many come: to grow on the way, and to look up each id again for it, takes longer than to read them.
    window.reserve(to - at);
    await askPatiently(() => stored.callerIds(at, to, sinceMs, take), patience);
    at = to;
    // Room for all that may still come, if these are anything to go by.
    window.reserve(Math.ceil((window.size / (at - from)) * (next - at)));
  }
  logger.info({ ids: window.size, seconds: (clock.monotonicMs() - begun) / 1000 }, "ids of recent rows read");
}
