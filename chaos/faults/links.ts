// What happens between processes: slow, reset, and ClickHouse answering as it does on a bad day.
import { askMetadata } from "../../test/kit/kafka-metadata.ts";
import type { TcpProxy } from "../../test/kit/tcp-proxy.ts";
import type { ClickHouseFault } from "../clickhouse-proxy.ts";
import { TOKENS_REMEMBERED } from "../kinds.ts";
import { type Fault, type FaultContext, hold, logged, serviceOf, until } from "./fault.ts";

/** A fault on a way that nobody uses now, because another fault is at work behind it, waits for somebody to use it. */
const SEEN_MS_MAX = 30_000;

export const slowBroker: Fault = async (context) => {
  const { brokerLink } = context.cluster;
  const latencyMs = context.random.integer(50, 300);
  const bytesPerSecond = context.random.integer(200_000, 1_000_000);
  brokerLink.setLatency(latencyMs);
  brokerLink.setBytesPerSecond(bytesPerSecond);
  try {
    let tookMs = 0;
    await until(context, "the broker answers through the proxy", SEEN_MS_MAX, async () => {
      const begun = performance.now();
      const answered = await askMetadata(brokerLink.port);
      tookMs = performance.now() - begun;
      return answered;
    });
    // There and back, each with the latency.
    if (tookMs < 2 * latencyMs) throw new Error(`an answer took ${tookMs} ms with a latency of ${latencyMs} ms`);
    await hold(context, context.holdMs);
    return {
      proof: `latency ${latencyMs} ms, ${bytesPerSecond} bytes/s; a metadata answer took ${Math.round(tookMs)} ms`,
    };
  } finally {
    brokerLink.setLatency(0);
    brokerLink.setBytesPerSecond(undefined);
  }
};

export const resetGateway: Fault = (context) => {
  const index = context.cluster.gateways.indexOf(serviceOf(context.cluster.gateways, context.target));
  return reset(context, context.cluster.gatewayLinks[index] as TcpProxy);
};

export const resetBroker: Fault = (context) => reset(context, context.cluster.brokerLink);

export const resetClickHouse: Fault = (context) => reset(context, context.cluster.clickhouseLink);

async function reset(context: FaultContext, link: TcpProxy) {
  const begun = performance.now();
  let count = 0;
  do {
    count += link.resetAll();
    await hold(context, context.random.integer(50, 300));
  } while (performance.now() - begun < (count > 0 ? context.holdMs : SEEN_MS_MAX));
  if (count === 0) throw new Error("there was no connection to reset");
  return { proof: `${count} connections reset` };
}

/**
 * One consumer cannot reach ClickHouse, or hears nothing of it, while it keeps its partitions and the others go on until
 * ClickHouse has forgotten what it sent. Beforehand its answers are held, so that an insert of its lands unseen.
 */
export const cutConsumer: Fault = async (context) => {
  const { cluster, load, random, target } = context;
  const consumer = serviceOf(cluster.consumers, target);
  const link = cluster.consumerLinks[cluster.consumers.indexOf(consumer)] as TcpProxy;
  const others = cluster.consumers.filter((one) => one !== consumer);
  // Each batch of theirs is an insert. A consumer that is killed meanwhile begins a new account.
  const stored = () => others.reduce((sum, { process }) => sum + logged(process, "batch stored").length, 0);
  const how = random.pick(["refuse", "answers", "silence"] as const);
  const begun = performance.now();
  let seen = stored();
  let tokens = 0;
  const count = () => {
    const now = stored();
    tokens += now > seen ? now - seen : 0;
    seen = now;
    return tokens;
  };
  // Without load the others insert nothing, and who waits for all that is on the log waits for this consumer.
  await until(context, "there is load", PAUSE_MS_MAX, () => !load.isPaused);
  cut.add(consumer);
  try {
    link.blackhole(true, "back");
    await hold(context, ANSWERS_HELD_MS);
    if (how === "refuse") link.refuse(true);
    else link.blackhole(true, how === "answers" ? "back" : undefined);
    link.resetAll();
    await hold(context, context.holdMs - ANSWERS_HELD_MS);
    const isForgotten = () => count() > TOKENS_REMEMBERED;
    await until(context, "the others insert more than is remembered", FORGOTTEN_MS_MAX, isForgotten);
  } finally {
    cut.delete(consumer);
    link.refuse(false);
    link.blackhole(false);
    link.resetAll();
  }
  const seconds = Math.round((performance.now() - begun) / 1000);
  return { proof: `${how} for ${seconds} s, in which the others stored ${tokens} batches` };
};

/** Consumers that are cut off from ClickHouse now. */
export const cut: Set<unknown> = new Set();
/** Load is paused until all of it is stored. */
const PAUSE_MS_MAX = 120_000;

/** The slower ClickHouse is, the longer batches wait, and the fewer they are. */
const FORGOTTEN_MS_MAX = 2 * SEEN_MS_MAX;

/** Long enough for every partition of the consumer to have an insert under way. */
const ANSWERS_HELD_MS = 2_500;

/** `always`: every request is hit; else the probability is drawn, so that some get through. */
export function clickHouseFault(kind: ClickHouseFault, always: boolean): Fault {
  return async (context) => {
    const { clickhouseProxy } = context.cluster;
    const before = clickhouseProxy.hits(kind);
    const probability = always ? 1 : context.random.integer(30, 100) / 100;
    clickhouseProxy.inject(kind, () => context.random.next() < probability);
    try {
      await hold(context, context.holdMs);
      await until(context, `${kind} hits a request`, SEEN_MS_MAX, () => clickhouseProxy.hits(kind) > before);
    } finally {
      clickhouseProxy.inject(undefined);
    }
    return { proof: `${clickhouseProxy.hits(kind) - before} requests hit, probability ${probability}` };
  };
}
