// What a fault is, and what several of them need.
import { setTimeout as sleep } from "node:timers/promises";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { patience } from "../../test/kit/patience.ts";
import type { LogLine, Spawned } from "../../test/kit/processes.ts";
import type { Random } from "../../test/kit/random.ts";
import type { Service } from "../../test/kit/service.ts";
import { until as untilSo } from "../../test/kit/until.ts";
import type { Cluster } from "../cluster.ts";
import type { Load } from "../load.ts";
import type { StandaloneReport } from "../standalone.ts";

export interface FaultContext {
  cluster: Cluster;
  load: Load;
  eventsPerSecond: number;
  /** This fault's own, so that its choices do not depend on those of others. */
  random: Random;
  target: string;
  holdMs: number;
  signal: AbortSignal;
}

export interface FaultResult {
  /** What shows that it has happened, for people. */
  proof: string;
  standalone?: StandaloneReport;
}

/** Resolves when the fault is lifted; rejects when it cannot be shown to have happened, or found something wrong. */
export type Fault = (context: FaultContext) => Promise<FaultResult>;

export function hold({ signal }: Pick<FaultContext, "signal">, ms: number): Promise<void> {
  return sleep(ms, undefined, { signal });
}

/**
 * Resolves when `isSo` is; rejects, naming `what`, when that takes longer than `msMax` may on this machine. It is not so while
 * the brokers cannot be asked: another fault has them.
 */
export async function until(
  { signal }: Pick<FaultContext, "signal">,
  what: string,
  msMax: number,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  const isSoNow = async () => {
    try {
      return await isSo();
    } catch (error) {
      if (error instanceof LogUnavailableError) return false;
      throw error;
    }
  };
  await untilSo(isSoNow, what, patience(msMax), signal);
}

export function serviceOf(services: readonly Service[], name: string): Service {
  const service = services.find((one) => one.name === name);
  if (!service) throw new Error(`no process ${name}`);
  return service;
}

/** The log lines with this message. */
export function logged({ lines }: Spawned, message: string): LogLine[] {
  const needle = `"message":${JSON.stringify(message)}`;
  return lines.filter((text) => text.includes(needle)).map((text) => JSON.parse(text) as LogLine);
}

/** Partitions that the consumer was given by the last rebalance it knows of. */
export function partitionsOf(consumer: Service): number[] {
  return (logged(consumer.process, "partitions assigned").at(-1)?.partitions ?? []) as number[];
}
