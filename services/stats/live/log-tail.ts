// Follows one topic from its end, for as long as somebody watches. It belongs to no group and commits nothing: the
// consumer does not know of it. Asking for the bounds and reading only what has grown costs one small request a round
// whatever the number of partitions; waiting reads would queue up on the one connection that Kafka gives them.
import {
  type LogReader,
  LogUnavailableError,
  OffsetOutOfRangeError,
  type PartitionBounds,
  type StoredRecord,
} from "#lib/eventlog/log.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { retryForever } from "#lib/process/retry.ts";
import { sleepUnless } from "#lib/process/waiting.ts";

/** connecting: the ends of the log are not known yet. interrupted: the log is away; what it takes is shown later. */
export type TailState = "connecting" | "live" | "interrupted";

/** Why records of the log were not shown. */
type SkipReason = "undecodable" | "behind" | "trimmed" | "reset";

export interface TailHooks<T> {
  onPoints(points: readonly T[]): void;
  /** Each change of state; `reason` says what is wrong, fit for a caller's eyes. */
  onState(state: TailState, reason: string): void;
  /** `records` is 0 for a reset: how many were missed cannot be known. */
  onSkipped(reason: SkipReason, records: number): void;
  /** What no outage explains: the tail has ended. */
  onFailed(error: unknown): void;
}

export interface LogTailOptions<T> {
  log: LogReader;
  topic: string;
  /** Undefined: the record is fine and has nothing to show. Throws PoisonRecordError for bytes that never become a row. */
  decode(partition: number, record: StoredRecord): T | undefined;
  hooks: TailHooks<T>;
}

export interface LogTail {
  /** Ends it: no hook is called any more. Resolves when no call to the log is under way. */
  stop(): Promise<void>;
}

/** Rest between two looks at the log: most of the time between an append and its being shown. */
const POLL_MS = 150;
const READ_RECORDS_MAX = 5_000;
const READ_BYTES_MAX = 4 * 1024 * 1024;
/** The records of a read are there already; this is for a leader that has just moved. */
const READ_WAIT_MS = 500;
/** Further behind, a partition is taken up at its end again: what is shown late is not live. */
const BEHIND_RECORDS_MAX = 50_000;
const SILENT_MS = 2_000;
const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 2_000;

/** Begins at once, at the end of the log: records that are on it already are not shown. */
export function startLogTail<T>({ log, topic, decode, hooks }: LogTailOptions<T>): LogTail {
  const stopping = new AbortController();
  const { signal } = stopping;
  /** By partition, the next offset to read; undefined until the ends are known. */
  let positions: Map<number, number> | undefined;
  let told = "connecting ";

  function setState(state: TailState, reason: string): void {
    const news = `${state} ${reason}`;
    if (signal.aborted || news === told) return;
    told = news;
    hooks.onState(state, reason);
  }

  function skipped(reason: SkipReason, records: number): void {
    if (!signal.aborted) hooks.onSkipped(reason, records);
  }

  /** One look at every partition; true when one of them has more. */
  async function round(): Promise<boolean> {
    const bounds = await log.bounds(topic);
    if (positions === undefined) positions = new Map(bounds.map(({ partition, end }) => [partition, end]));
    const grown = bounds.filter((partition) => adjust(positions as Map<number, number>, partition));
    const more = await Promise.all(grown.map((partition) => readSome(positions as Map<number, number>, partition)));
    setState("live", "");
    return more.includes(true);
  }

  /** Puts the position within the bounds; true when there is something to read. */
  function adjust(at: Map<number, number>, { partition, start, end }: PartitionBounds): boolean {
    // A partition that was not there when the tail began is new as a whole.
    const next = at.get(partition) ?? start;
    let from = next;
    if (next > end) {
      skipped("reset", 0);
      from = end;
    } else if (end - next > BEHIND_RECORDS_MAX) {
      skipped("behind", end - next);
      from = end;
    } else if (next < start) {
      skipped("trimmed", start - next);
      from = start;
    }
    at.set(partition, from);
    return from < end;
  }

  async function readSome(at: Map<number, number>, { partition, end }: PartitionBounds): Promise<boolean> {
    const from = at.get(partition) as number;
    const limits = { maxRecords: READ_RECORDS_MAX, maxBytes: READ_BYTES_MAX, maxWaitMs: READ_WAIT_MS };
    let records: StoredRecord[];
    try {
      records = await log.tail(topic, partition, { from, ...limits });
    } catch (error) {
      // Trimmed or reset since the bounds were told: the next round's bounds say which.
      if (error instanceof OffsetOutOfRangeError) return false;
      throw error;
    }
    at.set(partition, from + records.length);
    show(partition, records);
    return from + records.length < end;
  }

  function show(partition: number, records: readonly StoredRecord[]): void {
    const points: T[] = [];
    let undecodable = 0;
    for (const record of records) {
      try {
        const point = decode(partition, record);
        if (point !== undefined) points.push(point);
      } catch (error) {
        // The consumer makes a dead letter of it; here it has nothing to show.
        if (!(error instanceof PoisonRecordError)) throw error;
        undecodable++;
      }
    }
    if (undecodable > 0) skipped("undecodable", undecodable);
    if (points.length > 0 && !signal.aborted) hooks.onPoints(points);
  }

  async function run(): Promise<void> {
    for (;;) {
      const more = await retryForever(watched(round), {
        signal,
        baseMs: RETRY_BASE_MS,
        capMs: RETRY_CAP_MS,
        isTransient: (error) => error instanceof LogUnavailableError,
        onRetry: ({ error }) => setState("interrupted", (error as LogUnavailableError).message),
      });
      if (!(await sleepUnless(signal, more ? 0 : POLL_MS))) return;
    }
  }

  /** A broker that hangs is reported before the call to it gives up. */
  function watched(look: () => Promise<boolean>): () => Promise<boolean> {
    return async () => {
      const silent = () => setState("interrupted", `the event log has not answered for ${SILENT_MS / 1000} s`);
      const timer = setTimeout(silent, SILENT_MS);
      try {
        return await look();
      } finally {
        clearTimeout(timer);
      }
    };
  }

  const ended = run().catch((error: unknown) => {
    if (!signal.aborted) hooks.onFailed(error);
  });
  return {
    async stop() {
      stopping.abort(new Error("the last watcher has left"));
      await ended;
    },
  };
}
