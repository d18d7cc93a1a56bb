// Points on their way to the log. Answers of many relays share an append; what the log cannot take now waits, as the
// records it is, and so under the same point ids.

import { type AppendRecord, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import type { PointDropReason, RelayMetrics } from "./metrics.ts";

export interface PointLogOptions {
  append(records: readonly AppendRecord[], signal: AbortSignal): Promise<unknown>;
  /** Bound on what is held, the append under way included. */
  maxBytes: number;
  metrics: Pick<RelayMetrics, "pointsDropped" | "countAppend">;
  logger: Logger;
}

export interface PointLog {
  /** Over the bound the oldest points are dropped. */
  add(records: readonly AppendRecord[]): void;
  readonly bytes: number;
  /** Resolves when all is on the log, or after `deadlineMs` with the rest dropped. Nothing may be added after it. */
  close(deadlineMs: number): Promise<void>;
}

/** Answers to one poll arrive within about this time. */
const LINGER_MS = 50;
const GROUP_RECORDS_MAX = 2_000;
/** Below Kafka's default message.max.bytes, because a group may fall into one partition whole. */
const GROUP_BYTES_MAX = 950_000;
/** Key, value, headers and varints of one record in a Kafka batch, beyond its key and value bytes. */
const RECORD_OVERHEAD_BYTES = 100;
/** What a held record takes in memory beyond its value. */
const HELD_OVERHEAD_BYTES = 300;
/** Upper bounds of the pauses after failed appends. */
const PAUSE_MS_FIRST = 100;
const PAUSE_MS_MAX = 5_000;
/** Above the limit that the Kafka log sets itself, so that its reason is the one that is told. */
const APPEND_MS_MAX = 20_000;
const DROP_LOG_MS = 60_000;

export function createPointLog(options: PointLogOptions): PointLog {
  return new WaitingPoints(options);
}

class WaitingPoints implements PointLog {
  readonly #options: PointLogOptions;
  /** Oldest first; [0, #first) are gone already. */
  #waiting: (AppendRecord | undefined)[] = [];
  #first = 0;
  /** Of those that wait and of the append under way. */
  #bytes = 0;
  #failures = 0;
  #running: Promise<void> | undefined;
  #unlogged = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;
  /** Ends pauses: there is no time to wait for better times. */
  readonly #hurry = new AbortController();
  readonly #expired = new AbortController();

  constructor(options: PointLogOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(records: readonly AppendRecord[]): void {
    for (const record of records) {
      this.#waiting.push(record);
      this.#bytes += heldBytes(record);
    }
    this.#dropOldest();
    this.#running ??= this.#run();
  }

  async close(deadlineMs: number): Promise<void> {
    this.#hurry.abort();
    const timer = setTimeout(() => this.#expired.abort(new Error("no time left")), deadlineMs);
    await this.#running;
    clearTimeout(timer);
    this.#drop("stopped", this.#waiting.length - this.#first);
  }

  async #run(): Promise<void> {
    await sleepUnless(this.#hurry.signal, LINGER_MS);
    while (this.#waiting.length > this.#first && !this.#expired.signal.aborted) {
      const group = this.#takeGroup();
      const left = await this.#append(group);
      for (const record of group) this.#bytes -= heldBytes(record);
      if (left.length === 0) continue;
      this.#keep(left, left.length < group.length);
      await this.#pause();
    }
    this.#running = undefined;
  }

  #takeGroup(): AppendRecord[] {
    const group: AppendRecord[] = [];
    let bytes = 0;
    while (group.length < GROUP_RECORDS_MAX && this.#first < this.#waiting.length) {
      const record = this.#waiting[this.#first] as AppendRecord;
      bytes += record.key.length + record.value.length + RECORD_OVERHEAD_BYTES;
      if (bytes > GROUP_BYTES_MAX && group.length > 0) break;
      group.push(record);
      this.#forgetFirst();
    }
    return group;
  }

  #forgetFirst(): void {
    this.#waiting[this.#first++] = undefined;
    if (this.#first < 10_000 || this.#first < this.#waiting.length / 2) return;
    this.#waiting = this.#waiting.slice(this.#first);
    this.#first = 0;
  }

  /** Resolves with the records that have to be sent again. */
  async #append(group: AppendRecord[]): Promise<AppendRecord[]> {
    const { append, metrics } = this.#options;
    const begun = performance.now();
    const seconds = () => (performance.now() - begun) / 1000;
    try {
      await append(group, AbortSignal.any([AbortSignal.timeout(APPEND_MS_MAX), this.#expired.signal]));
      metrics.countAppend(group.length, seconds(), false);
      this.#tellOutage(undefined);
      return [];
    } catch (error) {
      metrics.countAppend(group.length, seconds(), true);
      if (error instanceof RecordTooLargeError) return this.#divide(group);
      this.#tellOutage(error);
      if (!(error instanceof PartialAppendError)) return group;
      this.#failures = 1; // The log is there; the pauses need not grow.
      // Without an outcome nothing is known of a record.
      return group.filter((_, index) => (error.outcomes[index] ?? error) instanceof Error);
    }
  }

  /**
   * The topic takes less than Kafka's default, or one record is too much for it. Only this group is divided: the next one
   * may fit whole. Parts of a group may be sent again: the ids are the same.
   */
  async #divide(group: AppendRecord[]): Promise<AppendRecord[]> {
    if (group.length === 1) {
      this.#countDrops("too_large", 1);
      return [];
    }
    const middle = Math.ceil(group.length / 2);
    const left = await this.#append(group.slice(0, middle));
    const rest = group.slice(middle);
    // While the log is away, the second half need not find that out as well.
    return this.#failures > 0 ? [...left, ...rest] : [...left, ...(await this.#append(rest))];
  }

  /**
   * Back in front of the others. When some of their group are stored, behind them: one bad partition must not hold up
   * the points of all others.
   */
  #keep(records: AppendRecord[], isBehind: boolean): void {
    const others = this.#waiting.slice(this.#first);
    this.#waiting = isBehind ? [...others, ...records] : [...records, ...others];
    this.#first = 0;
    for (const record of records) this.#bytes += heldBytes(record);
    this.#dropOldest();
  }

  async #pause(): Promise<void> {
    if (this.#failures === 0) return;
    const bound = Math.min(PAUSE_MS_MAX, PAUSE_MS_FIRST * 2 ** Math.min(this.#failures - 1, 30));
    if (this.#hurry.signal.aborted) await sleepUnless(this.#expired.signal, PAUSE_MS_FIRST);
    else await sleepUnless(this.#hurry.signal, Math.random() * bound);
  }

  #dropOldest(): void {
    let count = 0;
    while (this.#bytes > this.#options.maxBytes && this.#first < this.#waiting.length) {
      this.#bytes -= heldBytes(this.#waiting[this.#first] as AppendRecord);
      this.#forgetFirst();
      count++;
    }
    this.#countDrops("buffer_full", count);
  }

  #drop(reason: PointDropReason, count: number): void {
    this.#waiting = [];
    this.#first = 0;
    this.#bytes = 0;
    this.#loggedAt = Number.NEGATIVE_INFINITY; // The last word on them: said whenever the one before was.
    this.#countDrops(reason, count);
  }

  #countDrops(reason: PointDropReason, count: number): void {
    if (count === 0) return;
    this.#options.metrics.pointsDropped.inc({ reason }, count);
    this.#unlogged += count;
    if (performance.now() - this.#loggedAt < DROP_LOG_MS) return;
    this.#options.logger.warn({ points: this.#unlogged, reason }, "points dropped: they will not reach the log");
    this.#loggedAt = performance.now();
    this.#unlogged = 0;
  }

  /** An outage is two log lines, however many appends meet it. */
  #tellOutage(error: unknown): void {
    const { logger } = this.#options;
    if (error !== undefined && this.#failures++ === 0) {
      logger.warn({ err: error }, "the event log does not take points; they are kept and tried again");
    } else if (error === undefined && this.#failures > 0) {
      this.#failures = 0;
      logger.info("the event log takes points again");
    }
  }
}

function heldBytes(record: AppendRecord): number {
  return record.value.length + HELD_OVERHEAD_BYTES;
}
