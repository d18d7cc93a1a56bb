// A consumer on a scripted log and a real ClickHouse, and the ways in which it can be made to suffer.
import { setTimeout as pause } from "node:timers/promises";
import { pino } from "pino";
import { Registry } from "prom-client";
import type { AppendRecord, Assignment, OpenLog } from "#lib/eventlog/log.ts";
import { createUuidV7, parseUuid } from "#lib/events/ids.ts";
import { createRecordEncoder, type LogEvent } from "#lib/events/record.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { InsertOptions, Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Consumer, startConsumer } from "../../services/consumer/app.ts";
import type { BatchConfig } from "../../services/consumer/config.ts";
import { EVENTS, type TopicKind } from "../../services/consumer/kinds.ts";
import { auditMemory, auditStored, type StoredAudit } from "./audit.ts";
import type { MemoryWarehouse } from "./memory-warehouse.ts";
import { createScriptedLog, type ScriptedLog } from "./scripted-log.ts";
import { until } from "./until.ts";

export const BATCHES: BatchConfig = {
  batchSize: 50_000,
  batchBytes: 8_000_000,
  flushInterval: 10,
  idWindow: 3_600_000,
  idWindowCount: 2_000_000,
};

export interface ConsumerOptions {
  config?: Partial<BatchConfig>;
  clock?: Clock;
  warehouse?: (inner: Warehouse) => Warehouse;
  log?: (inner: OpenLog) => OpenLog;
  /** True once nothing it waits for will ever come, so that it cannot be stopped. */
  isDead?: () => boolean;
}

interface LogLine {
  level: number;
  msg: string;
  err?: { message: string };
}

const WARN = 40;

export interface RunningConsumer extends Consumer {
  readonly registry: Registry;
  /** Lines it logged at warn and above. */
  readonly warnings: LogLine[];
  /** Lines it logged at info and above. */
  readonly lines: LogLine[];
  /** Set when `failed` rejected. */
  readonly failure: () => unknown;
}

export interface Stage extends AsyncDisposable {
  readonly log: ScriptedLog;
  readonly epoch: string;
  readonly warehouse: Warehouse;
  append(...records: AppendRecord[]): Promise<void>;
  start(options?: ConsumerOptions): RunningConsumer;
  /** Resolves when everything appended is committed and nothing is in flight. */
  drained(msMax?: number): Promise<void>;
  audit(): Promise<StoredAudit>;
  /** A metric's value, summed over its labels; undefined when it has none. */
  metric(consumer: RunningConsumer, name: string): Promise<number | undefined>;
}

export interface StageOptions {
  partitions?: number;
  /** Distinguishes the stages that share one database. */
  epoch: string;
  now?: () => number;
  /** As of the scripted log. */
  givesTopicIds?: boolean;
  /** Default: events, without the roll-up of their values. */
  kind?: TopicKind;
}

/** Disposing stops the consumers it started, but for the dead. */
export async function createStage(warehouse: Warehouse | MemoryWarehouse, options: StageOptions): Promise<Stage> {
  const { partitions = 1, epoch, now, givesTopicIds = false, kind = { ...EVENTS, isRolledUp: false } } = options;
  const { topic, group } = kind;
  const log = createScriptedLog({
    partitions,
    givesTopicIds,
    ...(now ? { now } : {}),
    wait: (ms) => pause(Math.min(ms, 20)),
  });
  await log.createTopics([{ topic, partitions }]);
  const ofEpoch = { ...log, epoch: async () => epoch };
  const consumers: RunningConsumer[] = [];
  const deaths = new Map<RunningConsumer, () => boolean>();
  const ends = async () => new Map((await log.bounds(topic)).map(({ partition, end }) => [partition, end]));
  return {
    log,
    epoch,
    warehouse,
    async append(...records) {
      await log.append(topic, records);
    },
    start({ config, clock, warehouse: wrap, log: wrapLog, isDead } = {}) {
      const registry = new Registry();
      const lines: LogLine[] = [];
      const warnings: LogLine[] = [];
      const write = (text: string) => {
        const line = JSON.parse(text) as LogLine;
        lines.push(line);
        if (line.level >= WARN) warnings.push(line);
      };
      const logger = pino({ level: "info" }, { write });
      const ports = { log: wrapLog?.(ofEpoch) ?? ofEpoch, warehouse: wrap?.(warehouse) ?? warehouse };
      const parts = { kinds: [kind], ...ports, registry, logger };
      const consumer = startConsumer({ ...BATCHES, ...config }, { ...parts, ...(clock ? { clock } : {}) });
      let failure: unknown;
      consumer.failed.catch((error: unknown) => {
        failure = error;
      });
      const running = { ...consumer, registry, warnings, lines, failure: () => failure };
      consumers.push(running);
      if (isDead) deaths.set(running, isDead);
      return running;
    },
    async drained(msMax) {
      const wanted = await ends();
      await until(
        async () => {
          for (const consumer of consumers) if (consumer.failure()) throw consumer.failure();
          const commits = await log.committed(topic, group);
          return [...wanted].every(([partition, end]) => {
            const commit = commits.get(partition);
            return end === 0 || (commit?.offset === end && !commit.metadata.includes('"to"'));
          });
        },
        "everything is committed",
        msMax,
      );
    },
    async audit() {
      if ("rowsOf" in warehouse) return auditMemory(warehouse, epoch, await ends());
      return auditStored(warehouse, epoch, await ends(), kind.table);
    },
    async metric({ registry }, name) {
      const found = await registry.getSingleMetric(name)?.get();
      return found?.values.reduce<number | undefined>((sum, { value }) => (sum ?? 0) + value, undefined);
    },
    async [Symbol.asyncDispose]() {
      const living = consumers.filter((consumer) => !deaths.get(consumer)?.());
      await Promise.all(living.map((consumer) => consumer[Symbol.asyncDispose]()));
    },
  };
}

const newId = createUuidV7();
const encode = createRecordEncoder();
const NO_TEXT = { source: "", originalTime: "", apiKey: "", ip: "", userAgent: "", sessionId: "", windowId: "" };
const NO_MORE_TEXT = { elementsChain: "", currentUrl: "", host: "", anonDistinctId: "", deviceId: "" };

/** A record as the gateway would make it; `id` as UUID text is the caller's own. */
export function eventRecord(fields: Partial<Omit<LogEvent, "id">> & { id?: string; key?: string } = {}): AppendRecord {
  const { id, key, ...rest } = fields;
  const own = id === undefined ? undefined : parseUuid(id);
  const nowUs = Date.now() * 1000;
  const event: LogEvent = {
    ...NO_TEXT,
    ...NO_MORE_TEXT,
    ...{ event: "seen", distinctId: "d", value: undefined, timeUs: nowUs, receivedUs: nowUs, propertiesJson: "{}" },
    ...{ id: own ?? newId(), idFromCaller: own !== undefined, checkStored: false },
    ...rest,
  };
  return { key: Buffer.from(key ?? event.distinctId), value: Buffer.from(encode(event)) };
}

/** UUID text made of a number, for ids that repeat. */
export function idOf(n: number): string {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
}

export const poisonRecord: AppendRecord = { key: Buffer.from("d"), value: Buffer.from([0x0a, 0xff, 1, 2, 3]) };

/** What a consumer notes for itself now and then, which no test here is about. */
const NOTES = new Set(["log_progress", "log_hours"]);

/** A warehouse that does `act` around its inserts, but for notes; everything else is the inner one's. */
export function withInsert(
  act: (options: InsertOptions, insert: () => Promise<void>) => Promise<void>,
): (inner: Warehouse) => Warehouse {
  return (inner) => ({
    ...inner,
    insert: (options) => (NOTES.has(options.table) ? inner.insert(options) : act(options, () => inner.insert(options))),
  });
}

/** A log whose assignments are changed by `change`. */
export function withAssignments(change: (inner: Assignment) => Assignment): (inner: OpenLog) => OpenLog {
  return (inner) => ({
    ...inner,
    consume: (options) =>
      inner.consume({ ...options, onAssigned: (assignment) => options.onAssigned(change(assignment)) }),
  });
}

export interface Mortal {
  /** Resolves when the process is dead; never, when it outlives its work. */
  readonly died: Promise<void>;
  /** It dies now. */
  kill(): void;
  /** Moments passed so far: two a call, before it takes effect and after. */
  readonly moments: () => number;
  readonly options: Required<Pick<ConsumerOptions, "warehouse" | "log" | "isDead">>;
}

/** A process that is killed at the given moment (from 0): whatever it had begun goes on, nothing comes back to it. */
export function createMortal(deathAt: number): Mortal {
  let moments = 0;
  let isDead = false;
  const death = Promise.withResolvers<void>();
  const never = new Promise<never>(() => {});

  function pass(): Promise<void> {
    if (isDead) return never;
    if (moments++ !== deathAt) return Promise.resolve();
    kill();
    return never;
  }
  function kill(): void {
    isDead = true;
    death.resolve();
  }
  async function live<T>(act: () => Promise<T>): Promise<T> {
    await pass();
    try {
      return await act();
    } finally {
      await pass();
    }
  }
  return {
    died: death.promise,
    kill,
    moments: () => moments,
    options: {
      isDead: () => isDead,
      warehouse: (inner) => ({
        ...inner,
        query: (sql, options) => live(() => inner.query(sql, options)),
        readBinary: (sql, take, options) => live(() => inner.readBinary(sql, take, options)),
        insert: (options) => live(() => inner.insert(options)),
        command: (sql, options) => live(() => inner.command(sql, options)),
      }),
      log: withAssignments((inner) => ({
        ...inner,
        committed: () => live(() => inner.committed()),
        commit: (commit) => live(() => inner.commit(commit)),
        read: (options) => live(() => inner.read(options)),
      })),
    },
  };
}
