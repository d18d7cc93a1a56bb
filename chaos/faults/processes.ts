// Processes killed, frozen, told to stop, added and removed.
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { askMetadata } from "../../test/kit/kafka-metadata.ts";
import { isAlive, isFrozen } from "../../test/kit/os-processes.ts";
import type { Service } from "../../test/kit/service.ts";
import { portOf } from "../cluster.ts";
import { type Fault, type FaultContext, type FaultResult, hold, partitionsOf, serviceOf, until } from "./fault.ts";

const AGAIN_MS_MAX = 60_000;
/** How long a kill waits for its victim to have a range in flight. */
const IN_FLIGHT_MS_MAX = 2_000;

export const killGateway: Fault = (context) =>
  killService(context, serviceOf(context.cluster.gateways, context.target));

export const killConsumer: Fault = async (context) => {
  const consumer = serviceOf(context.cluster.consumers, context.target);
  const inFlight = await waitForRange(context, partitionsOf(consumer));
  const { proof } = await killService(context, consumer);
  return { proof: `${proof}; in flight: ${inFlight ?? "nothing"}` };
};

async function killService(context: FaultContext, service: Service): Promise<FaultResult> {
  const { pid } = service.process;
  await service.stop("SIGKILL");
  await mustBeDead(context, pid);
  await hold(context, context.holdMs);
  await service.start();
  return { proof: `pid ${pid} dead, started again as ${service.process.pid}` };
}

/** The moment in which a death matters most: marked, and not known to be stored. */
async function waitForRange(
  { cluster: { log }, signal }: FaultContext,
  partitions: number[],
): Promise<string | undefined> {
  const deadline = performance.now() + IN_FLIGHT_MS_MAX;
  while (performance.now() < deadline && !signal.aborted) {
    // With the broker away there is nothing to wait for.
    const committed = await log.committed(EVENTS_TOPIC, CONSUMER_GROUP).catch(() => new Map());
    for (const partition of partitions) {
      const commit = committed.get(partition);
      if (commit?.metadata.includes('"to"')) return `${partition}: ${commit.offset} ${commit.metadata}`;
    }
  }
  return undefined;
}

export const freezeGateway: Fault = (context) => {
  const { process: gateway } = serviceOf(context.cluster.gateways, context.target);
  return freeze(context, gateway.pid);
};

export const freezeConsumer: Fault = async (context) => {
  const consumer = serviceOf(context.cluster.consumers, context.target);
  const held = partitionsOf(consumer);
  const { proof } = await freeze(context, consumer.process.pid, () => {
    const others = context.cluster.consumers.filter((other) => other !== consumer && other.isRunning);
    const moved = new Set(others.flatMap(partitionsOf));
    return `, ${held.filter((partition) => moved.has(partition)).length} of its ${held.length} partitions moved on`;
  });
  return { proof };
};

export const freezeClickHouse: Fault = async (context) => freeze(context, await context.cluster.enginePid());

async function freeze(context: FaultContext, pid: number, observe: () => string = () => ""): Promise<FaultResult> {
  process.kill(pid, "SIGSTOP");
  let observed: string;
  try {
    await until(context, `pid ${pid} is stopped`, 2_000, () => isFrozen(pid));
    await hold(context, context.holdMs);
    if (!(await isFrozen(pid))) throw new Error(`pid ${pid} did not stay stopped`);
    observed = observe();
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await until(context, `pid ${pid} goes on`, 2_000, async () => !(await isFrozen(pid)));
  return { proof: `pid ${pid} in state T for ${(context.holdMs / 1000).toFixed(1)} s${observed}` };
}

export const killClickHouse: Fault = async (context) => {
  const { clickhouse, enginePid, warehouse } = context.cluster;
  const engine = await enginePid();
  const isBack = async () => {
    await warehouse.ping();
    return true;
  };
  const answers = () => until(context, "ClickHouse answers again", AGAIN_MS_MAX, () => isBack().catch(() => false));
  if (context.target === "engine") {
    process.kill(engine, "SIGKILL");
    await mustBeDead(context, engine);
    await answers();
    return { proof: `engine pid ${engine} dead, started again by its endpoint as ${await enginePid()}` };
  }
  const { pid } = clickhouse.process;
  const stopped = clickhouse.stop("SIGKILL");
  process.kill(engine, "SIGKILL");
  await stopped;
  await mustBeDead(context, pid);
  await mustBeDead(context, engine);
  await hold(context, context.holdMs);
  await clickhouse.start();
  await answers();
  return { proof: `endpoint pid ${pid} and engine pid ${engine} dead, started again` };
};

export const killBroker: Fault = async (context) => {
  const { broker } = context.cluster;
  await broker.kill9();
  if (await askMetadata(portOf(broker))) throw new Error("the broker answers although it was killed");
  await hold(context, context.holdMs);
  await broker.restart();
  return { proof: "no answer while dead, answers again" };
};

export const freezeBroker: Fault = async (context) => {
  const { broker } = context.cluster;
  broker.pause();
  try {
    if (await askMetadata(portOf(broker))) throw new Error("the broker answers although it is frozen");
    await hold(context, context.holdMs);
  } finally {
    broker.resume();
  }
  await until(context, "the broker answers again", AGAIN_MS_MAX, () => askMetadata(portOf(broker)));
  return { proof: `no answer for ${(context.holdMs / 1000).toFixed(1)} s, answers again` };
};

export const restartGateway: Fault = async (context) => {
  const gateway = serviceOf(context.cluster.gateways, context.target);
  const { pid } = gateway.process;
  const code = await gateway.stop("SIGTERM");
  await hold(context, context.holdMs);
  await gateway.start();
  if (code !== 0) throw new Error(`told to stop, the gateway ended with ${code}`);
  return { proof: `pid ${pid} ended with 0, started again as ${gateway.process.pid}` };
};

/** A fourth consumer comes, one of the three drains and leaves, comes back, and the fourth leaves. */
export const changeConsumers: Fault = async (context) => {
  const { consumers, spareConsumer } = context.cluster;
  const leaving = serviceOf(consumers, context.target);
  const joined = (consumer: Service) =>
    until(context, `${consumer.name} has partitions`, AGAIN_MS_MAX, () => partitionsOf(consumer).length > 0);
  await spareConsumer.start();
  await joined(spareConsumer);
  const given = partitionsOf(spareConsumer).length;
  await hold(context, context.holdMs / 2);
  const left = await leaving.stop("SIGTERM");
  await hold(context, context.holdMs / 2);
  await leaving.start();
  await joined(leaving);
  const spareLeft = await spareConsumer.stop("SIGTERM");
  if (left !== 0 || spareLeft !== 0) throw new Error(`told to stop, consumers ended with ${left} and ${spareLeft}`);
  return { proof: `${spareConsumer.name} came and got ${given} partitions, ${leaving.name} left and came back` };
};

async function mustBeDead(context: FaultContext, pid: number): Promise<void> {
  await until(context, `pid ${pid} is dead`, 5_000, async () => !(await isAlive(pid)));
}
