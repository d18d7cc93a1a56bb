// What a gateway does while one broker of three is dead, and while its broker is far.
import { randomUUID } from "node:crypto";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { everything } from "../../test/kit/eventlog-reading.ts";
import { startKafka } from "../../test/kit/kafka.ts";
import { type ClusterBroker, startKafkaCluster, type TestKafkaCluster } from "../../test/kit/kafka-cluster.ts";
import { patience } from "../../test/kit/patience.ts";
import { spawnMillrace } from "../../test/kit/processes.ts";
import { startTcpProxy } from "../../test/kit/tcp-proxy.ts";
import { until as untilSo } from "../../test/kit/until.ts";
import type { LoadOrder } from "../load.ts";
import { startMeasured } from "../meter.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { runLoad } from "../run-load.ts";

const LIVING_P99_MS_MAX = 100;
const AFTER_MS_MAX = 1_000;
const PARTITIONS = 12;
const CUT_MS = 6_000;
const FAR_SHARE_MIN = 0.8;
const ONE_WAY_MS = 20;
const CALLERS = 10;
const REQUESTS_PER_SECOND = 50;
const RETRY_MS = 200;
const POLL_MS = 50;
const ELECTED_MS_MAX = 60_000;
/** The load goes on for so long after the new leaders are there. */
const AFTERWARDS_MS = 3_000;

interface Sent {
  partition: number;
  sentAt: number;
  /** First answer that it is durable. */
  ackedAt: number;
}

/**
 * Single-event requests while the leader of some partitions is killed, or cut off from its clients and not from its peers.
 * With three replicas on three brokers Kafka itself acknowledges nothing, on no partition, until a killed one is out of
 * the replicas in sync, which it is when the new leaders are elected; one that is cut off keeps its partitions.
 */
export async function measureAwayBroker(how: "dead" | "cut off", setting: Setting): Promise<Result> {
  await using cluster = await startKafkaCluster({ links: how === "cut off" });
  await using log = createKafkaLog({ brokers: cluster.peers, clientId: "bench", logger: pino({ level: "silent" }) });
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: PARTITIONS }]);
  const env = { ...cluster.env("scram-sha-512"), HOST: "127.0.0.1", PORT: "0" };
  await using gateway = spawnMillrace(["gateway"], env);
  const port = (await gateway.logged("gateway listening")).port as number;
  using load = startSingles(port);
  await until(
    () => load.sent.filter(({ ackedAt }) => ackedAt > 0).length > 50,
    "events are acknowledged",
    setting.signal,
  );
  const begun = performance.now();
  setting.progress("all brokers alive");
  await sleep(setting.quick ? 2_000 : 5_000, undefined, { signal: setting.signal });

  const before = await cluster.partitions(EVENTS_TOPIC);
  const victim = cluster.brokers.find(({ id }) => id === before.get(0)?.leader) as ClusterBroker;
  const isLedByVictim = ({ partition }: Sent) => before.get(partition)?.leader === victim.id;
  setting.progress(`one broker is ${how}`);
  if (how === "dead") await victim.kill9();
  else victim.cutFromClients(true);
  const awayAt = performance.now();
  if (how === "dead") await elected(cluster, victim.id, setting);
  else await sleep(CUT_MS, undefined, { signal: setting.signal });
  const backAt = performance.now();
  victim.cutFromClients(false);
  await sleep(AFTERWARDS_MS, undefined, { signal: setting.signal });
  const sent = await load.end();

  const msOf = (some: readonly Sent[]) => some.map(({ sentAt, ackedAt }) => ackedAt - sentAt);
  const whileAway = sent.filter(({ sentAt }) => sentAt > awayAt && sentAt < backAt);
  const others = msOf(whileAway.filter((one) => !isLedByVictim(one)));
  const own = whileAway.filter(isLedByVictim).map(({ ackedAt }) => ackedAt - backAt);
  const alive = msOf(sent.filter(({ sentAt }) => sentAt > begun && sentAt < awayAt - 500));
  const after = msOf(sent.filter(({ sentAt }) => sentAt > backAt + AFTER_MS_MAX));
  const stored = (await everything(log, EVENTS_TOPIC)).map(({ stored: { value } }) =>
    formatUuid(decodeRecord(value).id),
  );
  const rows = new Set(stored).size;
  expectCounted(sent.length, rows);
  const p99 = how === "dead" ? quantile(after, 0.99) : quantile(others, 0.99);
  const text = (values: readonly number[]) =>
    `p50 ${quantile(values, 0.5).toFixed(0)}, p99 ${quantile(values, 0.99).toFixed(0)}, max ${Math.max(...values).toFixed(0)} ms (${values.length})`;
  return {
    name: `single events, one broker of three ${how}`,
    ...{ events: sent.length, acked: sent.length, rows, seconds: (performance.now() - begun) / 1000 },
    targets: [
      {
        what: how === "dead" ? "p99 after the election, ms" : "p99 on other brokers' partitions, ms",
        ...{ measured: p99, limit: LIVING_P99_MS_MAX },
      },
      {
        what: how === "dead" ? "last ack after the election, ms" : "last ack after its return, ms",
        ...{ measured: Math.max(...own), limit: AFTER_MS_MAX },
      },
    ],
    note:
      `before: ${text(alive)}; ${how} for ${((backAt - awayAt) / 1000).toFixed(1)} s: others' partitions ${text(others)}; ` +
      `its own, after that ${text(own)}; then all ${text(after)}; ${stored.length - rows} twice on the log`,
  };
}

/** When every partition has another leader than `dead`. */
async function elected(cluster: TestKafkaCluster, dead: number | undefined, { signal }: Setting): Promise<number> {
  for (const deadline = performance.now() + ELECTED_MS_MAX; performance.now() < deadline; ) {
    const states = [...(await cluster.partitions(EVENTS_TOPIC)).values()];
    if (states.every(({ leader }) => leader >= 0 && leader !== dead)) return performance.now();
    await sleep(POLL_MS, undefined, { signal });
  }
  throw new Error("no new leaders were elected");
}

/** Each caller sends what was not acknowledged again, every 200 ms. */
function startSingles(port: number) {
  const sent: Sent[] = [];
  const ending = new AbortController();
  let disposed = false;
  const agent = new http.Agent({ keepAlive: true });
  async function deliver(distinctId: string): Promise<void> {
    const one: Sent = {
      partition: partitionOf(Buffer.from(distinctId), PARTITIONS),
      sentAt: performance.now(),
      ackedAt: 0,
    };
    const body = JSON.stringify({
      id: randomUUID(),
      event_type: "click",
      source: "web",
      user_id: distinctId,
      created_at: new Date(),
    });
    sent.push(one);
    while (!disposed) {
      const status = await post(port, agent, body);
      if (status === 200 || status === 202) break;
      await sleep(RETRY_MS);
    }
    one.ackedAt = performance.now();
  }
  async function caller(number: number): Promise<void> {
    const beatMs = (CALLERS * 1_000) / REQUESTS_PER_SECOND;
    await sleep((beatMs * number) / CALLERS);
    const pending = new Set<Promise<void>>();
    for (let n = 0; !ending.signal.aborted; n++) {
      // Not awaited: a request that waits must not keep the next from its time.
      const one = deliver(`user-${number}-${n}`).finally(() => pending.delete(one));
      pending.add(one);
      await sleep(beatMs);
    }
    await Promise.all(pending);
  }
  const running = Promise.all(Array.from({ length: CALLERS }, (_, i) => caller(i)));
  return {
    sent: sent as readonly Sent[],
    async end(): Promise<Sent[]> {
      ending.abort();
      await running;
      agent.destroy();
      return sent;
    },
    [Symbol.dispose]() {
      disposed = true;
      ending.abort();
    },
  };
}

/** Resolves with the status, or 0 when there was no answer. */
function post(port: number, agent: http.Agent, body: string): Promise<number> {
  const headers = { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) };
  return new Promise((resolve) => {
    const request = http.request({ host: "127.0.0.1", port, path: "/events", method: "POST", agent, headers });
    request.on("response", (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
      response.on("error", () => resolve(0));
    });
    request.on("error", () => resolve(0));
    request.end(body);
  });
}

/** As many events as it takes, with the broker near and 20 ms away in each direction. */
export async function measureFarBroker(setting: Setting): Promise<Result> {
  let brokerPort = 0;
  await using link = await startTcpProxy({ targetPort: () => brokerPort });
  await using broker = await startKafka({ advertisedPort: link.port });
  brokerPort = Number(broker.brokers[0]?.split(":")[1]);
  await using gateway = await startMeasured("gateway-process.ts", [`kafka:127.0.0.1:${link.port}`]);
  await using log = createKafkaLog({ brokers: broker.brokers, clientId: "bench", logger: pino({ level: "silent" }) });
  const order: LoadOrder = {
    port: Number(gateway.details.port),
    kind: "connect-protobuf",
    seconds: setting.quick ? 1.5 : 6,
    connections: 64,
    eventsPerRequest: [100],
  };
  const rates: Record<number, number[]> = { 0: [], [ONE_WAY_MS]: [] };
  let acked = (await runLoad({ ...order, seconds: 2 }, setting.signal)).acked;
  // In turns: the machine has other things to do, now more and now less.
  for (const latencyMs of setting.quick ? [0, ONE_WAY_MS] : [0, ONE_WAY_MS, 0, ONE_WAY_MS]) {
    link.setLatency(latencyMs);
    setting.progress(`${latencyMs} ms one way`);
    const load = await runLoad(order, setting.signal);
    acked += load.acked;
    rates[latencyMs]?.push(load.acked / load.seconds);
  }
  const rows = (await log.bounds(EVENTS_TOPIC)).reduce((sum, { start, end }) => sum + end - start, 0);
  expectCounted(acked, rows);
  const [near = [], far = []] = [rates[0], rates[ONE_WAY_MS]];
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    name: "gateway connect-protobuf, broker 20 ms away",
    ...{ events: acked, acked, rows, seconds: order.seconds },
    targets: [
      { what: "share of the events/s without", measured: mean(far) / mean(near), limit: FAR_SHARE_MIN, atLeast: true },
    ],
    note: `near ${near.map(Math.round).join(", ")}, far ${far.map(Math.round).join(", ")} events/s`,
  };
}

function until(isSo: () => boolean, what: string, signal: AbortSignal): Promise<void> {
  return untilSo(isSo, what, patience(60_000), signal);
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(share * (values.length - 1))] ?? Number.NaN;
}
