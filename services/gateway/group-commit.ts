// Requests that arrive together share one append. While the log makes it durable, the next group gathers, so groups grow
// with load by themselves and an idle gateway waits only `lingerMs`. A log that takes several appends side by side gets the
// next one after `paceMs` at the latest: one that is far, or of which a part is away, does not hold up what comes after.
import type { AppendRecord, OnSettled, Position } from "#lib/eventlog/log.ts";
import { LogUnavailableError, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";

export interface GroupCommitOptions {
  lingerMs: number;
  maxRecords: number;
  /**
   * Bytes of one append, records and their framing. Kafka bounds the bytes that one append brings one partition
   * (message.max.bytes, 1,048,588 by default), and all records may share a partition.
   */
  maxBytes: number;
  /**
   * How long records may wait for their append to begin, looked at ten times in that time. While the log is away, which
   * is from an append that failed to one that does not, only a tenth of it: one group at a time tries the log, and
   * nobody else waits for what is likely to fail.
   */
  waitMsMax: number;
  /** How long one append may take. What became of its records is then unknown, and the next group has its turn. */
  appendMsMax: number;
  /** How long one append holds up the next. Absent: until it has ended, which it does too while the log is away. */
  paceMs?: number | undefined;
  append(records: AppendRecord[], onSettled: OnSettled): Promise<readonly Position[]>;
  onAppend?(records: number, bytes: number, seconds: number, error: Error | undefined): void;
}

/** Records [from, to) of a submission that are not known to be durable. */
export interface FailedRange {
  from: number;
  to: number;
  error: Error;
}

/** `indexes` says of which of the submitted records each position is. */
export type OnDurable = (positions: readonly Position[], indexes: readonly number[]) => void;

export interface GroupCommit {
  /**
   * Resolves when the fate of every record is known; an empty array: all are durable. `onDurable` hears where each of
   * those is, part by part.
   */
  submit(records: readonly AppendRecord[], onDurable?: OnDurable): Promise<FailedRange[]>;
}

interface Submission {
  records: readonly AppendRecord[];
  next: number;
  unsettled: number;
  submittedAt: number;
  failed: FailedRange[];
  onDurable: OnDurable | undefined;
  resolve(failed: FailedRange[]): void;
}

interface Slice {
  submission: Submission;
  from: number;
  to: number;
}

/** Records of several submissions, by their index in one append. */
interface Group {
  slices: readonly Slice[];
  isSettled: Uint8Array;
}

/** Key, value, headers and varints of one record in a Kafka batch, beyond its key and value bytes. */
const RECORD_OVERHEAD_BYTES = 100;

export function createGroupCommit(options: GroupCommitOptions): GroupCommit {
  const waiting: Submission[] = [];
  let running = false;
  let away = false;
  let durableAt = Number.NEGATIVE_INFINITY;

  function submit(records: readonly AppendRecord[], onDurable?: OnDurable): Promise<FailedRange[]> {
    if (records.length === 0) return Promise.resolve([]);
    return new Promise((resolve) => {
      waiting.push({
        records,
        next: 0,
        unsettled: records.length,
        submittedAt: performance.now(),
        failed: [],
        onDurable,
        resolve,
      });
      if (!running) void run();
    });
  }

  async function run(): Promise<void> {
    running = true;
    await new Promise((resolve) => setTimeout(resolve, options.lingerMs));
    while (waiting.length > 0) {
      expireLate();
      const slices = takeGroup();
      if (slices.length > 0) await atPace(appendGroup(slices));
    }
    running = false;
  }

  async function atPace(append: Promise<void>): Promise<void> {
    if (options.paceMs === undefined || away) return append;
    const paced = Promise.withResolvers<void>();
    const timer = setTimeout(paced.resolve, options.paceMs);
    await Promise.race([append, paced.promise]);
    clearTimeout(timer);
  }

  function patienceMs(): number {
    return away ? options.waitMsMax / 10 : options.waitMsMax;
  }

  function expireLate(): void {
    const waitMs = patienceMs();
    const oldest = performance.now() - waitMs;
    while (waiting[0] && waiting[0].submittedAt < oldest) {
      const submission = waiting.shift() as Submission;
      const error = new LogUnavailableError(`the event log did not take the event within ${waitMs} ms`);
      submission.failed.push({ from: submission.next, to: submission.records.length, error });
      submission.unsettled -= submission.records.length - submission.next;
      if (submission.unsettled === 0) submission.resolve(submission.failed);
    }
  }

  function takeGroup(): Slice[] {
    const slices: Slice[] = [];
    let records = 0;
    let bytes = 0;
    for (let first = waiting[0]; first; first = waiting[0]) {
      const from = first.next;
      let to = from;
      for (; to < first.records.length && records < options.maxRecords; to++, records++) {
        const record = first.records[to] as AppendRecord;
        bytes += record.key.length + record.value.length + RECORD_OVERHEAD_BYTES;
        if (bytes > options.maxBytes && records > 0) break;
      }
      if (to > from) slices.push({ submission: first, from, to });
      first.next = to;
      if (to < first.records.length) break;
      waiting.shift();
    }
    return slices;
  }

  async function appendGroup(slices: Slice[]): Promise<void> {
    const records: AppendRecord[] = [];
    let bytes = 0;
    for (const { submission, from, to } of slices) {
      for (let i = from; i < to; i++) {
        const record = submission.records[i] as AppendRecord;
        bytes += record.value.length;
        records.push(record);
      }
    }
    const begun = performance.now();
    const expiring = setInterval(expireLate, patienceMs() / 10);
    const group: Group = { slices, isSettled: new Uint8Array(records.length) };
    let error: Error | undefined;
    let positions: readonly Position[] = [];
    try {
      const onSettled: OnSettled = (indexes, outcomes) => settle(group, indexes, outcomes, undefined);
      positions = await within(options.appendMsMax, options.append(records, onSettled));
    } catch (cause) {
      error = appendError(cause, records.length);
    } finally {
      clearInterval(expiring);
    }
    // What others brought meanwhile may be durable: then a part of the log is away and not the log.
    const isWhole = error instanceof LogUnavailableError && !(error instanceof PartialAppendError);
    away = isWhole && durableAt < begun;
    options.onAppend?.(records.length, bytes, (performance.now() - begun) / 1000, error);
    settle(group, records.keys(), error instanceof PartialAppendError ? error.outcomes : positions, error);
  }

  /** Of those that are not settled yet. Without an outcome nothing is known of a record, which is no reason to acknowledge it. */
  function settle(
    { slices, isSettled }: Group,
    indexes: Iterable<number>,
    outcomes: readonly (Position | Error)[],
    failure: Error | undefined,
  ): void {
    const open = [...indexes].filter((index) => isSettled[index] === 0);
    const sharing = new Map<Error, number>();
    const errorAt = (index: number): Error | undefined => {
      const outcome = outcomes[index] ?? failure;
      return outcome instanceof Error ? outcome : undefined;
    };
    for (const index of open) {
      const error = errorAt(index);
      if (error) sharing.set(error, (sharing.get(error) ?? 0) + 1);
    }
    const told = new Map([...sharing].map(([error, count]) => [error, appendError(error, count)]));
    const now = performance.now();
    let first = 0; // Index in `outcomes` of the slice's first record.
    let next = 0;
    for (const { submission, from, to } of slices) {
      const end = first + to - from;
      const begun = next;
      const positions: Position[] = [];
      const durable: number[] = [];
      for (let index = open[next]; index !== undefined && index < end; index = open[++next]) {
        isSettled[index] = 1;
        const at = from + index - first;
        const error = errorAt(index);
        if (error) noteFailed(submission, at, told.get(error) as Error);
        else durableAt = now;
        if (!error && submission.onDurable && outcomes[index]) {
          positions.push(outcomes[index] as Position);
          durable.push(at);
        }
      }
      if (positions.length > 0) submission.onDurable?.(positions, durable);
      submission.unsettled -= next - begun;
      if (next > begun && submission.unsettled === 0) submission.resolve(submission.failed);
      first = end;
    }
  }

  function noteFailed({ failed }: Submission, at: number, error: Error): void {
    const last = failed.at(-1);
    if (last !== undefined && last.to === at && last.error === error) last.to++;
    else failed.push({ from: at, to: at + 1, error });
  }

  return { submit };
}

async function within<T>(ms: number, append: Promise<T>): Promise<T> {
  const expired = Promise.withResolvers<never>();
  const error = () => new LogUnavailableError(`the event log did not answer an append within ${ms} ms`);
  const timer = setTimeout(() => expired.reject(error()), ms);
  try {
    return await Promise.race([append, expired.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A group is smaller than any log takes by default, so a group refused for its size meets a log set lower than that. Its
 * no single record is to blame, and appending them again in parts could store some twice.
 */
function appendError(cause: unknown, records: number): Error {
  if (cause instanceof RecordTooLargeError && records > 1) {
    return new LogUnavailableError(
      "the topic takes smaller batches than Kafka's default: raise its max.message.bytes to 1048588",
      {
        cause,
      },
    );
  }
  return cause instanceof Error ? cause : new Error("append failed", { cause });
}
