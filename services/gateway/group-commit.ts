// Requests that arrive together share one append. One append is in flight at a time: while the log makes it durable, the
// next group gathers, so groups grow with load by themselves and an idle gateway waits only `lingerMs`.
import type { AppendRecord, Position } from "#lib/eventlog/log.ts";
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
  append(records: AppendRecord[]): Promise<readonly Position[]>;
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

/** Key, value, headers and varints of one record in a Kafka batch, beyond its key and value bytes. */
const RECORD_OVERHEAD_BYTES = 100;

export function createGroupCommit(options: GroupCommitOptions): GroupCommit {
  const waiting: Submission[] = [];
  let running = false;
  let away = false;

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
      if (slices.length > 0) await appendGroup(slices);
    }
    running = false;
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
      settle({ submission, from: submission.next, to: submission.records.length }, error);
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
    let error: Error | undefined;
    let positions: readonly Position[] = [];
    try {
      positions = await within(options.appendMsMax, options.append(records));
    } catch (cause) {
      error = appendError(cause, records.length);
    } finally {
      clearInterval(expiring);
    }
    away = error instanceof LogUnavailableError && !(error instanceof PartialAppendError);
    options.onAppend?.(records.length, bytes, (performance.now() - begun) / 1000, error);
    tellDurable(slices, error instanceof PartialAppendError ? error.outcomes : positions);
    if (error instanceof PartialAppendError) settlePartly(slices, error);
    else for (const slice of slices) settle(slice, error);
  }

  /** `outcomes` are those of all records of the group. */
  function tellDurable(slices: readonly Slice[], outcomes: readonly (Position | Error)[]): void {
    let first = 0;
    for (const { submission, from, to } of slices) {
      const positions: Position[] = [];
      const indexes: number[] = [];
      for (let index = from; submission.onDurable && index < to; index++) {
        const outcome = outcomes[first + index - from];
        if (outcome === undefined || outcome instanceof Error) continue;
        positions.push(outcome);
        indexes.push(index);
      }
      submission.onDurable?.(positions, indexes);
      first += to - from;
    }
  }

  /** Settles each run of records that share their outcome. */
  function settlePartly(slices: Slice[], failure: PartialAppendError): void {
    const { outcomes } = failure;
    const sharing = new Map<Error, number>();
    for (const outcome of outcomes) {
      if (outcome instanceof Error) sharing.set(outcome, (sharing.get(outcome) ?? 0) + 1);
    }
    // Without an outcome nothing is known of a record, which is no reason to acknowledge it.
    const errorAt = (at: number) => {
      const outcome = outcomes[at] ?? failure;
      return outcome instanceof Error ? outcome : undefined;
    };
    let first = 0; // Index in `outcomes` of the slice's first record.
    for (const { submission, from, to } of slices) {
      for (let begin = from, end = from; begin < to; begin = end) {
        const reason = errorAt(first + begin - from);
        while (end < to && errorAt(first + end - from) === reason) end++;
        const error = reason && appendError(reason, sharing.get(reason) ?? 1);
        settle({ submission, from: begin, to: end }, error);
      }
      first += to - from;
    }
  }

  function settle({ submission, from, to }: Slice, error: Error | undefined): void {
    if (error) submission.failed.push({ from, to, error });
    submission.unsettled -= to - from;
    if (submission.unsettled === 0) submission.resolve(submission.failed);
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
 * records are not at fault one by one, and appending them again in parts could store some twice.
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
