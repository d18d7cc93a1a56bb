// Composition root of the consumer, and the life of its partitions.
import { setTimeout as pause } from "node:timers/promises";
import type { Registry } from "prom-client";
import {
  type Assignment,
  AssignmentLostError,
  type EventLog,
  type LogReader,
  LogUnavailableError,
} from "#lib/eventlog/log.ts";
import type { HealthCheck } from "#lib/http/health.ts";
import { currentEpoch, settlingTogether } from "#lib/ledger/epochs.ts";
import { createProgressKeeper } from "#lib/ledger/progress.ts";
import { appendedAt } from "#lib/ledger/same-log.ts";
import { type Clock, systemClock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createBatchWaits } from "./batch-wait.ts";
import { createBreakers } from "./breakers.ts";
import type { BatchConfig } from "./config.ts";
import { PartitionHaltedError, untilOver } from "./halted.ts";
import { createIdentity } from "./identity/resolver.ts";
import type { TopicKind } from "./kinds.ts";
import { createConsumerMetrics, registerBatchWait } from "./metrics.ts";
import { consumePartition, type PartitionDeps } from "./partition.ts";
import { watchParts } from "./parts.ts";
import { createRollup } from "./rollup/roller.ts";
import { watchStalls } from "./stall.ts";

export interface ConsumerParts {
  /** What is consumed, each in a group of its own. */
  kinds: readonly TopicKind[];
  log: EventLog & LogReader;
  warehouse: Warehouse;
  registry: Registry;
  logger: Logger;
  clock?: Clock;
}

export interface Consumer extends AsyncDisposable {
  readonly checks: readonly HealthCheck[];
  /** Rejects when consuming has ended by itself; never resolves. */
  readonly failed: Promise<never>;
}

type PartitionName = Pick<Assignment, "topic" | "partition">;

/** Time for the batches under way to be stored and committed when the process is to stop. */
const STOP_MS_MAX = 5000;
const RESTART_MS = 1000;

/** Consumes until disposed. Closes neither log nor warehouse, which it was handed. */
export function startConsumer(config: BatchConfig, parts: ConsumerParts): Consumer {
  const { log, registry, logger } = parts;
  const clock = parts.clock ?? systemClock;
  const waits = createBatchWaits(config.flushInterval, clock);
  const metrics = createConsumerMetrics(registry);
  registerBatchWait(registry, waits);
  const breaker = createBreakers({ warehouse: parts.warehouse, metrics, clock, logger });
  const { warehouse } = breaker;
  const progress = createProgressKeeper(warehouse, logger);
  const identity = createIdentity({ warehouse, registry, logger });
  const rollup = createRollup({ warehouse, clock, registry, logger });
  const tables = parts.kinds.map(({ table }) => table.name);
  const watchedParts = watchParts({ warehouse: parts.warehouse, tables, waits, logger });
  const stopping = new AbortController();
  const leaving = new AbortController();
  const halted = new Map<string, string>();
  const rebuilding = new Map<string, string>();
  const running = new Set<Promise<void>>();
  const settle = settlingTogether();
  const depsOf = (kind: TopicKind): PartitionDeps => ({
    kind,
    warehouse,
    metrics,
    clock,
    logger,
    batch: { recordsMax: config.batchSize, bytesMax: config.batchBytes },
    waits,
    messagingSystem: log.system,
    idWindow: { ageMsMax: config.idWindow, offsetsMax: config.idWindowCount },
    identity: kind.hasIdentity ? identity : undefined,
    rollup: kind.isRolledUp ? rollup : undefined,
    epoch: async (assignment) => settle({ log, warehouse, kind, topicId: await assignment.topicId(), logger }),
    arrivedAt: (partition, offset) => appendedAt(log, kind.topic, partition, offset),
    onWaiting(assignment, reason) {
      const { topic, partition } = assignment;
      if (reason !== undefined && !halted.has(`${topic}/${partition}`)) {
        logger.warn({ topic, partition, reason }, "partition waits");
      }
      setHalted(assignment, reason);
    },
    onRebuilding({ topic, partition }, what) {
      const name = `${topic}/${partition}`;
      if (what === undefined) rebuilding.delete(name);
      else rebuilding.set(name, `${name} ${what}`);
    },
    onProgress: progress.note,
    onRefused({ topic, partition }, error) {
      setHalted({ topic, partition }, error?.message);
      if (error) logger.error({ err: error, topic, partition }, "table refuses everything, partition waits");
      else logger.info({ topic, partition }, "table takes rows again");
    },
    stopping: stopping.signal,
  });

  async function live(held: Assignment, deps: PartitionDeps, rejoin: () => void): Promise<void> {
    const { topic, partition } = held;
    using watched = watchStalls(held, {
      clock,
      onStall(what) {
        metrics.stalls.inc({ topic, partition: String(partition) });
        logger.error({ topic, partition, what }, "partition gets no records, rejoining the group");
        rejoin();
      },
    });
    const { assignment } = watched;
    let epoch: string | undefined;
    const noting = { ...deps, epoch: async () => (epoch = await deps.epoch(assignment)) };
    // For the log that was found there a partition can be halted, not for one that has taken its place since.
    const isAnother = async () => epoch !== (await currentEpoch(log, warehouse, topic, await assignment.topicId()));
    while (!assignment.lost.aborted && !stopping.signal.aborted) {
      try {
        return await consumePartition(assignment, noting);
      } catch (error) {
        // Whatever fails after the loss fails because of it, or is met again by the partition's next owner.
        if (assignment.lost.aborted) return logger.debug({ topic, partition, err: error }, "partition lost");
        if (error instanceof PartitionHaltedError) {
          await untilOver(isAnother, AbortSignal.any([assignment.lost, stopping.signal]), () => {
            setHalted(assignment, error.message);
            logger.error({ err: error, topic, partition }, "partition halted");
          });
          setHalted(assignment, undefined);
          continue;
        }
        // A commit refused for the loss of a partition that then was not lost is an unavailable log as well.
        if (!(error instanceof LogUnavailableError || error instanceof AssignmentLostError)) throw error;
        // What was in flight is known to the marker, so starting over is safe.
        logger.warn({ topic, partition, err: error }, "event log unavailable, starting the partition over");
        await pause(RESTART_MS);
      }
    }
  }

  function setHalted({ topic, partition }: PartitionName, reason: string | undefined): void {
    const name = `${topic}/${partition}`;
    if (reason === undefined) halted.delete(name);
    else halted.set(name, reason);
    metrics.halted.set({ topic, partition: String(partition) }, reason === undefined ? 0 : 1);
  }

  function hold(assignment: Assignment, deps: PartitionDeps, rejoin: () => void): Promise<void> {
    const labels = { topic: assignment.topic, partition: String(assignment.partition) };
    // There from the start, so that what is seen first is a change.
    metrics.halted.set(labels, 0);
    metrics.stalls.inc(labels, 0);
    const life = live(assignment, deps, rejoin).finally(() => {
      running.delete(life);
      // Whatever it waited for is its next owner's to find.
      if (halted.has(`${assignment.topic}/${assignment.partition}`)) setHalted(assignment, undefined);
    });
    running.add(life);
    return life;
  }

  /** A member that was told to rejoin leaves with all its partitions and comes back over new connections. */
  async function consume(kind: TopicKind): Promise<void> {
    const { topic, group } = kind;
    const deps = depsOf(kind);
    while (!leaving.signal.aborted) {
      const rejoining = new AbortController();
      const signal = AbortSignal.any([leaving.signal, rejoining.signal]);
      const onAssigned = (assignment: Assignment) => hold(assignment, deps, () => rejoining.abort());
      await log.consume({ topic, group, signal, onAssigned });
    }
  }
  const consuming = parts.kinds.map(consume);
  const failed = Promise.all(consuming).then(() => new Promise<never>(() => {}));

  let stopped: Promise<void> | undefined;
  async function stop(): Promise<void> {
    stopping.abort();
    // What fails now has been reported by `failed`, and the marker covers it.
    await Promise.race([Promise.allSettled(running), pause(STOP_MS_MAX)]);
    leaving.abort();
    await Promise.allSettled(consuming);
    await rollup[Symbol.asyncDispose]();
    await identity[Symbol.asyncDispose]();
    await progress[Symbol.asyncDispose]();
    watchedParts[Symbol.dispose]();
    breaker[Symbol.dispose]();
    logger.info("consumer stopped");
  }
  return {
    checks: [
      { name: "clickhouse", check: (signal) => breaker.check(signal) },
      {
        name: "partitions",
        async check() {
          const [reason] = [...halted.values(), ...rebuilding.values()];
          if (reason !== undefined) throw new Error(reason);
        },
      },
      { name: "identity", check: () => identity.check() },
    ],
    failed,
    [Symbol.asyncDispose]() {
      stopped ??= stop();
      return stopped;
    },
  };
}
