// ClickHouse's circuit breaker, one for all partitions of the process. While ClickHouse is away, partitions wait here
// instead of each sending its batch again and again; a small question finds out when it is back.
//
//   closed ── FAILURES_MAX calls in a row fail ──▶ open ── a probe is answered ──▶ half open: one call goes through
//      ▲                                             ▲                                │
//      └────────────── it, or any other, succeeds ───┴────────── it fails ────────────┘
//
// A wait never comes between a marker and its insert: a call that meets the open breaker fails at once, and what is
// repeated when the breaker lets go begins with the marker (insert.ts).

import type { Clock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { FOREIGN_REMEDY, isBackPressure, remedyOf } from "#lib/warehouse/warehouse-errors.ts";

const FAILURES_MAX = 3;
const PROBE_PAUSE_MS_MIN = 250;
/** With the time of one probe this bounds how late a return of ClickHouse is noticed: below 5 s. */
const PROBE_PAUSE_MS_MAX = 2500;
const PROBE_MS_MAX = 2000;
/** A partition that was let through and has not called within this time has other worries; the next one is. */
const TRIAL_BEGINS_MS_MAX = 500;
/** Back-pressure without one success for this long is no pressure any more but a fault. */
const BUSY_MS_MAX = 60_000;
const CAUSE_CHARACTERS_MAX = 300;

export interface BreakerDeps {
  warehouse: Warehouse;
  metrics: { breakerState: { set(state: number): void }; breakerOpened: { inc(): void } };
  clock: Clock;
  logger: Logger;
}

export interface Breaker extends Disposable {
  /** The warehouse behind the breaker: inserts and queries reject with BreakerOpenError unless they may go through. */
  readonly warehouse: Warehouse;
  /** Resolves when ClickHouse answers; rejects with the reason, since when, and the remedy if a person has to act. */
  check(signal: AbortSignal): Promise<void>;
}

/** Nothing was sent. */
export class BreakerOpenError extends WarehouseError {
  /** Resolves when it is worth trying again; rejects with the reason of `signal`. */
  readonly passage: (signal: AbortSignal) => Promise<void>;

  constructor(message: string, passage: (signal: AbortSignal) => Promise<void>) {
    super(message, "transient");
    this.passage = passage;
  }
}

/** Disposing ends the probing; the partitions must be gone by then. */
export function createBreaker(deps: BreakerDeps): Breaker {
  const { warehouse } = deps;
  const circuit = new Circuit(deps);
  return {
    warehouse: {
      ...warehouse,
      query: (sql, options) => circuit.pass("query", () => warehouse.query(sql, options)),
      readBinary: (sql, take, options) => circuit.pass("query", () => warehouse.readBinary(sql, take, options)),
      insert: (options) => circuit.pass("insert", () => warehouse.insert(options)),
    },
    check: (signal) => circuit.check(signal),
    [Symbol.dispose]: () => circuit.dispose(),
  };
}

type State = "closed" | "half open" | "open";

/** Values of the metric. */
const STATES: Record<State, number> = { closed: 0, "half open": 1, open: 2 };

class Circuit {
  readonly #deps: BreakerDeps;
  readonly #disposed = new AbortController();
  readonly #waiting = new Set<() => void>();
  #state: State = "closed";
  /** Failures in a row, of all partitions together. */
  #failures = 0;
  /** Since the first of them. */
  #trouble: { sinceMs: number; sinceMonotonicMs: number; last: unknown } | undefined;
  #isTrialOut = false;
  #isRecovering = false;
  #probePauseMs = PROBE_PAUSE_MS_MIN;
  #busy: { since: number; last: number; error: WarehouseError } | undefined;

  constructor(deps: BreakerDeps) {
    this.#deps = deps;
  }

  async pass<T>(operation: "query" | "insert", call: () => Promise<T>): Promise<T> {
    const isTrial = this.#state === "half open" && !this.#isTrialOut;
    if (this.#state !== "closed" && !isTrial) {
      throw new BreakerOpenError(this.#reason(), (signal) => this.#passage(signal));
    }
    if (isTrial) this.#isTrialOut = true;
    try {
      const result = await call();
      this.#busy = undefined;
      // A call that began before the breaker opened says what was then, not what is now.
      if (isTrial || this.#state === "closed") this.#answered();
      return result;
    } catch (error) {
      this.#judge(operation, error, isTrial);
      throw error;
    } finally {
      if (isTrial) this.#isTrialOut = false;
    }
  }

  #judge(operation: "query" | "insert", error: unknown, isTrial: boolean): void {
    // The partition was lost, or its marker refused: that says nothing about ClickHouse.
    if (!(error instanceof WarehouseError)) {
      if (isTrial) this.#wakeOne();
      return;
    }
    const isPressure = error.kind === "transient" && isBackPressure(error.code);
    if (isPressure) {
      const now = this.#deps.clock.monotonicMs();
      this.#busy = { since: this.#busy?.since ?? now, last: now, error };
    }
    // Refused rows are an answer. Refused questions are not: their SQL is ours, so the tables must be wrong.
    if (isPressure || (operation === "insert" && error.kind !== "transient")) {
      if (isTrial || this.#state === "closed") this.#answered();
      return;
    }
    this.#failures++;
    this.#note(error);
    const isEnough = this.#state === "closed" && this.#failures >= FAILURES_MAX;
    if (isEnough || (isTrial && this.#state === "half open")) this.#open();
  }

  #note(error: unknown): void {
    const { clock, logger } = this.#deps;
    const previous = this.#trouble?.last;
    this.#trouble ??= { sinceMs: clock.nowMs(), sinceMonotonicMs: clock.monotonicMs(), last: error };
    this.#trouble.last = error;
    // Once for each fault: an hour without ClickHouse is one fact, not a thousand.
    if (this.#state !== "closed" && describe(previous) !== describe(error)) this.#report(error, logger);
  }

  #report(error: unknown, logger: Logger): void {
    const remedy = remedyFor(error);
    const fields = { err: error, ...(remedy === undefined ? {} : { remedy }) };
    logger[remedy === undefined ? "warn" : "error"](fields, "ClickHouse cannot be used, partitions wait");
  }

  #is(state: State): boolean {
    return this.#state === state;
  }

  #become(state: State): void {
    this.#state = state;
    this.#deps.metrics.breakerState.set(STATES[state]);
  }

  #open(): void {
    const isNew = this.#state === "closed";
    this.#become("open");
    if (!isNew) return;
    this.#deps.metrics.breakerOpened.inc();
    this.#probePauseMs = PROBE_PAUSE_MS_MIN;
    this.#report(this.#trouble?.last, this.#deps.logger);
    if (!this.#isRecovering) void this.#recover();
  }

  /** From open to closed, by however many probes and trials. */
  async #recover(): Promise<void> {
    const { signal } = this.#disposed;
    this.#isRecovering = true;
    while (this.#state !== "closed" && (await sleepUnless(signal, (0.5 + Math.random() / 2) * this.#probePauseMs))) {
      this.#probePauseMs = Math.min(2 * this.#probePauseMs, PROBE_PAUSE_MS_MAX);
      if (this.#state === "open" && (await this.#isAnswering())) await this.#letThrough();
    }
    this.#isRecovering = false;
  }

  async #isAnswering(): Promise<boolean> {
    const { signal } = this.#disposed;
    try {
      await this.#deps.warehouse.ping(AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS_MAX)]));
      return true;
    } catch (error) {
      if (!signal.aborted) this.#note(error);
      return false;
    }
  }

  /** Until somebody has tried. With nobody there to try, the probe's answer is all there is to go by. */
  async #letThrough(): Promise<void> {
    // A call that was under way all the time may have closed the circuit while the probe was.
    if (!this.#is("open")) return;
    this.#become("half open");
    do {
      if (!this.#isTrialOut && !this.#wakeOne()) this.#answered();
    } while ((await sleepUnless(this.#disposed.signal, TRIAL_BEGINS_MS_MAX)) && this.#is("half open"));
  }

  #wakeOne(): boolean {
    const [wake] = this.#waiting;
    wake?.();
    return wake !== undefined;
  }

  /** ClickHouse works, whatever it said. */
  #answered(): void {
    this.#failures = 0;
    const trouble = this.#trouble;
    this.#trouble = undefined;
    if (this.#state === "closed") return;
    this.#become("closed");
    const seconds = (this.#deps.clock.monotonicMs() - (trouble?.sinceMonotonicMs ?? 0)) / 1000;
    this.#deps.logger.info({ seconds }, "ClickHouse is used again");
    for (const wake of [...this.#waiting]) wake();
  }

  #passage(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#state === "closed") return resolve();
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", abort);
        resolve();
      };
      const abort = () => {
        this.#waiting.delete(wake);
        reject(signal.reason);
      };
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.add(wake);
    });
  }

  #reason(): string {
    const { sinceMs = 0, sinceMonotonicMs = 0, last } = this.#trouble ?? {};
    const seconds = Math.round((this.#deps.clock.monotonicMs() - sinceMonotonicMs) / 1000);
    return `ClickHouse cannot be used since ${new Date(sinceMs).toISOString()} (${seconds} s): ${describe(last)}`;
  }

  async check(signal: AbortSignal): Promise<void> {
    if (this.#state !== "closed") throw new Error(this.#reason());
    const now = this.#deps.clock.monotonicMs();
    const busy = this.#busy;
    // A last one long ago was of a partition that has gone.
    if (busy && now - busy.since > BUSY_MS_MAX && now - busy.last < BUSY_MS_MAX) {
      const seconds = Math.round((now - busy.since) / 1000);
      throw new Error(`ClickHouse has taken nothing for ${seconds} s, it is too busy: ${describe(busy.error)}`);
    }
    await this.#deps.warehouse.ping(signal);
  }

  dispose(): void {
    this.#disposed.abort();
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message.slice(0, CAUSE_CHARACTERS_MAX)}` : "";
  const remedy = remedyFor(error);
  return `${error.message}${cause}${remedy === undefined ? "" : `; ${remedy}`}`;
}

function remedyFor(error: unknown): string | undefined {
  if (!(error instanceof WarehouseError)) return undefined;
  if (error.isForeign) return FOREIGN_REMEDY;
  return remedyOf(error.code, error.cause instanceof Error ? error.cause.message : "");
}
