// Runs a plan: each fault at its time, or as soon after it as those it must not overlap with have ended.
import { setTimeout as sleep } from "node:timers/promises";
import { askMetadata } from "../test/kit/kafka-metadata.ts";
import { createRandom } from "../test/kit/random.ts";
import type { FaultContext } from "./faults/fault.ts";
import { FAULTS } from "./faults/table.ts";
import { KINDS, type Lane } from "./kinds.ts";
import type { PlannedFault } from "./schedule.ts";
import type { StandaloneReport } from "./standalone.ts";

export interface FaultOutcome extends PlannedFault {
  /** Since the load began. */
  beganMs: number;
  endedMs: number;
  isSeen: boolean;
  /** What shows that it has happened, or why it is not taken to have. */
  proof: string;
  standalone: StandaloneReport | undefined;
}

export interface RunnerOptions {
  seed: number;
  plan: readonly PlannedFault[];
  context: Omit<FaultContext, "random" | "target" | "holdMs">;
  /** Called at each beginning and end, with what is in force. */
  onActive(active: readonly PlannedFault[]): void;
  onEnded(outcome: FaultOutcome): void;
}

/**
 * Resolves when the last fault is lifted. A fault that fails does not keep the others from their turn, unless it is one
 * that had the cluster to itself: then the plan ends with it.
 */
export async function runPlan({ seed, plan, context, onActive, onEnded }: RunnerOptions): Promise<FaultOutcome[]> {
  const { signal } = context;
  const begun = performance.now();
  const sinceBegun = () => Math.round(performance.now() - begun);
  const active = new Map<PlannedFault, Promise<void>>();
  const outcomes: FaultOutcome[] = [];
  let giveUp: Error | undefined;

  async function run(fault: PlannedFault, index: number): Promise<void> {
    const beganMs = sinceBegun();
    const own = { random: createRandom(seed + index + 1), target: fault.target, holdMs: fault.durationMs };
    let outcome: Pick<FaultOutcome, "isSeen" | "proof" | "standalone">;
    try {
      const { proof, standalone } = await FAULTS[fault.kind]({ ...context, ...own });
      outcome = { isSeen: true, proof, standalone };
    } catch (error) {
      const proof = error instanceof Error ? error.message : String(error);
      outcome = { isSeen: false, proof, standalone: undefined };
      await repair(fault, context).catch((failure: Error) => {
        outcome.proof += `; then, putting things right: ${failure.message}`;
      });
    }
    active.delete(fault);
    onActive([...active.keys()]);
    const whole = { ...fault, beganMs, endedMs: sinceBegun(), ...outcome };
    outcomes.push(whole);
    onEnded(whole);
    // Nobody knows what the others would meet: a topic that is gone, consumers that are halted.
    if (!whole.isSeen && KINDS[fault.kind].lane === "all") giveUp = new Error(`the run ended with ${fault.kind}`);
  }

  for (const [index, fault] of plan.entries()) {
    await sleep(Math.max(0, fault.atMs - sinceBegun()), undefined, { signal });
    for (;;) {
      const inTheWay = [...active].filter(([other]) => excludes(KINDS[fault.kind].lane, KINDS[other.kind].lane));
      if (inTheWay.length === 0) break;
      await Promise.all(inTheWay.map(([, ended]) => ended));
    }
    signal.throwIfAborted();
    if (giveUp) throw giveUp;
    const running = run(fault, index);
    active.set(fault, running);
    onActive([...active.keys()]);
  }
  await Promise.all(active.values());
  signal.throwIfAborted();
  if (giveUp) throw giveUp;
  return outcomes;
}

/** What a fault that failed half-way has left stopped is started, so that the others meet a whole cluster. */
async function repair({ kind }: PlannedFault, context: RunnerOptions["context"]): Promise<void> {
  const { cluster, load, eventsPerSecond, signal } = context;
  const { lane } = KINDS[kind];
  if (signal.aborted || lane === "link" || lane === "aside") return;
  for (const broker of cluster.kafka?.brokers ?? []) {
    if (!(await askMetadata(broker.peerPort))) await broker.restart();
  }
  await cluster.spareConsumer.stop("SIGKILL");
  const { clickhouse, gateways, consumers } = cluster;
  for (const service of [clickhouse, ...gateways, ...consumers]) if (!service.isRunning) await service.start();
  if (lane === "all") load.resume(eventsPerSecond);
}

function excludes(a: Lane, b: Lane): boolean {
  if (a === "aside" || b === "aside") return a === b;
  return a === b || a === "all" || b === "all";
}

/** One line about a fault that is over. */
export function outcomeText({ beganMs, endedMs, kind, target, isSeen, proof }: FaultOutcome): string {
  const took = `${((endedMs - beganMs) / 1000).toFixed(1)} s`;
  return `${secondsText(beganMs)}  ${kind} ${target}, ${took}: ${isSeen ? "" : "NOT SEEN: "}${proof}`;
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(6)} s`;
}
