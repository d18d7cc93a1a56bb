// Consumers on a scripted log and a warehouse in memory, every call of which, and every pause, waits for a property test's
// scheduler: before it takes effect and before its answer arrives. In between, anything may happen to a process: it dies,
// it freezes while its partitions go to others, it stops, the group is dealt anew.
import { pino } from "pino";
import { Registry } from "prom-client";
import { type AppendRecord, type Assignment, LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { InsertOptions, QueryOptions, Warehouse } from "#lib/warehouse/warehouse.ts";
import { startConsumer } from "../../services/consumer/app.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { BATCHES, createMortal, type Mortal } from "./consumer.ts";
import { createMemoryWarehouse, type MemoryRow, type MemoryWarehouse } from "./memory-warehouse.ts";
import type { Switches } from "./safeguards.ts";
import { closedSocket } from "./safeguards-faults.ts";
import { createScriptedLog, type ScriptedLog } from "./scripted-log.ts";

/** What becomes of one insert. part lost: its token stays, its rows do not, as when ClickHouse is killed in between. */
export type InsertFault = "none" | "answer lost" | "not arrived" | "part lost";

export interface InterleavedOptions {
  partitions: number;
  epoch: string;
  switches: Switches;
  /** Of the inserts, in the order in which they take effect; "none" when they are used up. */
  faults: readonly InsertFault[];
  /** Of the questions, likewise: true is not answered. */
  questions: readonly boolean[];
  /** True for rows of events_raw that a constraint forbids. */
  isRefused: (row: MemoryRow) => boolean;
  /** Resolves when the scheduler says so. */
  step(label: string): Promise<void>;
}

export interface Interleaved {
  readonly log: ScriptedLog;
  readonly warehouse: MemoryWarehouse;
  /** Errors that consumers logged: what halted them. */
  readonly errors: readonly string[];
  readonly processes: readonly InterleavedProcess[];
  append(records: readonly AppendRecord[]): void;
  start(batchSize: number): void;
  rebalance(): void;
  failNextCommit(hasLanded: boolean): void;
  /** For the consumers' pauses and the log's waits; time moves as they end. */
  pause(ms: number, signal: AbortSignal | undefined): Promise<void>;
  /** Everything appended is committed and nothing is in flight. */
  isDrained(): boolean;
  /** Kills every consumer still alive. From now on nothing fails. */
  killAll(): void;
  /** The same, and no pause ends any more: what is left is what the dead have sent. */
  end(): void;
}

export interface InterleavedProcess {
  /** Nothing comes back to it, now and for ever; what it had sent still arrives. */
  kill(): void;
  /** Its session ends without its knowing; it does nothing until it is thawed, and then goes on where it was. */
  freeze(): void;
  thaw(): void;
  /** As SIGTERM. */
  stop(): void;
}

export async function createInterleaved(options: InterleavedOptions): Promise<Interleaved> {
  let nowMs = 1_790_000_000_000;
  const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const log = createScriptedLog({
    partitions: options.partitions,
    // Pauses may have fractions, append times have none.
    now: () => Math.floor(nowMs),
    wait: (ms) => pause(ms, undefined),
  });
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: options.partitions }]);
  const ofEpoch: OpenLog = { ...log, epoch: async () => options.epoch };
  const warehouse = createMemoryWarehouse({ isRefused: options.isRefused });
  const errors: string[] = [];
  const processes: Process[] = [];
  const members = createNumbers();
  let faults = [...options.faults];
  let questions = [...options.questions];
  let isOver = false;

  async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (isOver) return new Promise(() => {});
    const due = nowMs + ms;
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(new DOMException("The operation was aborted", "AbortError"));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    await Promise.race([options.step(`${ms} ms`), aborted.promise]);
    nowMs = Math.max(nowMs, due);
  }

  async function insert(insertion: InsertOptions): Promise<void> {
    const fault = insertion.table === "log_progress" ? "none" : (faults.shift() ?? "none");
    if (fault === "none") return warehouse.insert(insertion);
    if (fault === "answer lost") await warehouse.insert(insertion);
    if (fault === "part lost") warehouse.keepTokenOnly(insertion);
    throw closedSocket();
  }

  async function query<Row>(sql: string, parameters?: QueryOptions): Promise<Row[]> {
    if (questions.shift()) throw closedSocket();
    return warehouse.query<Row>(sql, parameters);
  }

  function killAll(): void {
    faults = [];
    questions = [];
    for (const process of processes) process.kill();
  }

  return {
    log,
    warehouse,
    errors,
    processes,
    append: (records) => void log.append(EVENTS_TOPIC, records),
    start(batchSize) {
      const faulty: Warehouse = { ...warehouse, insert, query };
      const ports = { log: ofEpoch, warehouse: faulty, clock };
      processes.push(startProcess(batchSize, { ...options, ...ports, scripted: log, members, errors }));
    },
    rebalance: () => void log.rebalance(),
    failNextCommit: (hasLanded) => log.failNextCommit(new LogUnavailableError("the coordinator is away"), hasLanded),
    pause,
    isDrained: () => endsOf(log).every(([partition, end]) => isCommitted(log, partition, end)),
    killAll,
    end() {
      isOver = true;
      killAll();
    },
  };
}

function endsOf({ appends }: ScriptedLog): [partition: number, end: number][] {
  return [...new Map(appends.map(({ partition, offset }) => [partition, offset + 1]))];
}

function isCommitted(log: ScriptedLog, partition: number, end: number): boolean {
  const last = log.commits.findLast((commit) => commit.accepted && commit.partition === partition);
  return last?.offset === end && !last.metadata.includes('"to"');
}

/** The scripted log names consumers by their `consume` calls. */
function createNumbers(): () => number {
  let next = 0;
  return () => next++;
}

interface ProcessDeps extends Pick<InterleavedOptions, "step" | "switches"> {
  log: OpenLog;
  scripted: ScriptedLog;
  warehouse: Warehouse;
  clock: Clock;
  members: () => number;
  errors: string[];
}

function startProcess(batchSize: number, deps: ProcessDeps): Process {
  const mortal = createMortal(-1);
  const process = new Process(mortal, deps);
  const { warehouse, log } = process.ports();
  const logger = pino({ level: "error" }, { write: (line: string) => void deps.errors.push(line) });
  const consumer = startConsumer(
    { ...BATCHES, batchSize },
    {
      // The warehouse in memory computes no roll-up.
      kinds: [{ ...EVENTS, isRolledUp: false }],
      warehouse: mortal.options.warehouse(deps.switches.warehouse(warehouse)),
      log: mortal.options.log(deps.switches.log(log)),
      clock: deps.switches.clock(deps.clock),
      registry: new Registry(),
      logger,
    },
  );
  consumer.failed.catch((error: unknown) => void deps.errors.push(`consumer failed: ${error}`));
  process.dispose = () => consumer[Symbol.asyncDispose]();
  return process;
}

class Process implements InterleavedProcess {
  readonly #mortal: Mortal;
  readonly #deps: ProcessDeps;
  /** Of its latest `consume` call; undefined when it has left the group. */
  #member: number | undefined;
  /** Held while it is frozen. */
  #thawed: PromiseWithResolvers<void> | undefined;
  /** Resolves when the log stops waiting for its handlers. */
  #gone = Promise.withResolvers<void>();
  #isStopping = false;
  dispose: () => PromiseLike<void> = async () => {};

  constructor(mortal: Mortal, deps: ProcessDeps) {
    this.#mortal = mortal;
    this.#deps = deps;
  }

  kill(): void {
    if (this.#mortal.options.isDead()) return;
    this.#mortal.kill();
    this.#gone.resolve();
    // What it had sent arrives, frozen or not.
    this.#thawed?.resolve();
    if (this.#member !== undefined) this.#inGroup(this.#deps.scripted.killConsumer(this.#member));
  }

  freeze(): void {
    if (this.#thawed || this.#member === undefined || this.#mortal.options.isDead()) return;
    this.#thawed = Promise.withResolvers();
    this.#gone.resolve();
    this.#gone = Promise.withResolvers();
    this.#inGroup(this.#deps.scripted.expelConsumer(this.#member));
  }

  /** A member that failed has left by itself. */
  #inGroup(change: Promise<void>): void {
    change.catch((error: unknown) => void this.#deps.errors.push(String(error)));
  }

  thaw(): void {
    this.#thawed?.resolve();
    this.#thawed = undefined;
  }

  stop(): void {
    if (this.#isStopping || this.#mortal.options.isDead()) return;
    this.#isStopping = true;
    void this.dispose();
  }

  async #step(label: string): Promise<void> {
    await this.#deps.step(label);
    await this.#thawed?.promise;
  }

  async #call<T>(label: string, act: () => Promise<T>): Promise<T> {
    await this.#step(label);
    try {
      return await act();
    } finally {
      await this.#step(`${label} answered`);
    }
  }

  /** An abort ends the waiting for it, not the insert: that may be on its way. */
  async #insert({ signal, ...insertion }: InsertOptions): Promise<void> {
    signal?.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    signal?.addEventListener("abort", () => aborted.reject(signal.reason), { once: true });
    const label = `insert ${insertion.table} ${insertion.token}`;
    await Promise.race([this.#call(label, () => this.#deps.warehouse.insert(insertion)), aborted.promise]);
  }

  ports(): { warehouse: Warehouse; log: OpenLog } {
    const { warehouse, log, members } = this.#deps;
    return {
      warehouse: {
        ...warehouse,
        query: (sql, options) => this.#call("query", () => warehouse.query(sql, options)),
        insert: (options) => this.#insert(options),
        ping: (signal) => this.#call("ping", () => warehouse.ping(signal)),
      },
      log: {
        ...log,
        consume: (options) => {
          const member = members();
          this.#member = member;
          const leave = () => {
            if (this.#member === member) this.#member = undefined;
          };
          options.signal.addEventListener("abort", leave, { once: true });
          const onAssigned = (held: Assignment) =>
            Promise.race([options.onAssigned(this.#assignment(held)), this.#gone.promise]);
          return log.consume({ ...options, onAssigned });
        },
      },
    };
  }

  #assignment(held: Assignment): Assignment {
    const heard = new AbortController();
    const hear = async () => {
      await this.#step("loss");
      heard.abort();
    };
    held.lost.addEventListener("abort", () => void hear(), { once: true });
    return {
      topic: held.topic,
      partition: held.partition,
      lost: heard.signal,
      bounds: () => held.bounds(),
      topicId: () => held.topicId(),
      committed: () => this.#call("committed", () => held.committed()),
      commit: (commit) =>
        this.#call(`commit ${held.partition}:${commit.offset} ${commit.metadata}`, () => held.commit(commit)),
      read: (options) => this.#call(`read ${held.partition}:${options.from}`, () => held.read(options)),
    };
  }
}
