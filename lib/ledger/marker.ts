// The marker is the group's committed offset with metadata saying how far the range in flight reaches. The consumer that gets the
// partition next reads exactly that range again and inserts it under the same token.
import type { Assignment, Commit } from "#lib/eventlog/log.ts";
import type { Clock } from "#lib/process/clock.ts";

/** Offsets [from, to], both included. */
export interface Marker {
  from: number;
  to: number;
}

/** How long batches wait for more records, and why; told with each commit, for people. */
export interface BatchWait {
  ms: number;
  reason: string;
}

export interface MarkerKeeper {
  /** Makes the range the one in flight. */
  set(marker: Marker): Promise<void>;
  /** Commits the marker again when it was acknowledged more than `ageMsMax` ago: proof that the partition is still ours. */
  refresh(marker: Marker, ageMsMax: number): Promise<void>;
  /** Nothing is in flight; `next` is the first offset to process. */
  clear(next: number): Promise<void>;
}

export function createMarkerKeeper(
  assignment: Assignment,
  epoch: string,
  clock: Clock,
  chooseWait: () => BatchWait | undefined = () => undefined,
): MarkerKeeper {
  let acknowledgedAt = Number.NEGATIVE_INFINITY;

  async function set(marker: Marker): Promise<void> {
    // Taken before the request: what counts is when the log still knew us as the owner, not when its answer arrived.
    const asked = clock.monotonicMs();
    await assignment.commit({ offset: marker.from, metadata: encodeMetadata({ epoch, marker, wait: chooseWait() }) });
    acknowledgedAt = asked;
  }

  return {
    set,
    async refresh(marker, ageMsMax) {
      if (clock.monotonicMs() - acknowledgedAt > ageMsMax) await set(marker);
    },
    async clear(next) {
      await assignment.commit({
        offset: next,
        metadata: encodeMetadata({ epoch, marker: undefined, wait: chooseWait() }),
      });
    },
  };
}

export interface CommitState {
  epoch: string;
  marker: Marker | undefined;
  wait?: BatchWait | undefined;
}

function encodeMetadata({ epoch, marker, wait }: CommitState): string {
  return JSON.stringify({ epoch, to: marker?.to, wait: wait?.ms, why: wait?.reason });
}

/** What a commit says; undefined for metadata that is not ours. */
export function decodeCommit(commit: Commit): CommitState | undefined {
  let fields: { epoch?: unknown; to?: unknown; wait?: unknown; why?: unknown };
  try {
    fields = JSON.parse(commit.metadata) as typeof fields;
  } catch {
    // Committed by other tools, which leave the metadata empty or write their own.
    return undefined;
  }
  if (typeof fields !== "object" || fields === null || typeof fields.epoch !== "string") return undefined;
  const { epoch, to, wait, why } = fields;
  const isMarker = Number.isSafeInteger(to) && (to as number) >= commit.offset;
  return {
    epoch,
    marker: isMarker ? { from: commit.offset, to: to as number } : undefined,
    ...(typeof wait === "number" && typeof why === "string" && { wait: { ms: wait, reason: why } }),
  };
}
