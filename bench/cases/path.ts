// Gateway, consumer, broker, ClickHouse and load on one machine, at a given rate: from a socket to a row.
import { spawnMillrace } from "../../test/kit/processes.ts";
import { coresOf, readTaken } from "../cores.ts";
import type { LoadOrder } from "../load.ts";
import { startMeasured } from "../meter.ts";
import { type Latencies, probe } from "../probe.ts";
import { CaseFailedError, expectCounted, type Result, type Setting, type Target } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { countRows, type PathTarget, rowsReach, startPathTarget } from "../stores.ts";

const CONNECTIONS = 16;
const EVENTS_PER_REQUEST = 100;
const WARM_UP_EVENTS_PER_SECOND = 10_000;
/** A generator that fell behind by more than this did not put the load on. */
const RATE_SHARE_LIMIT = 0.99;
/** A consumer at four fifths of the rate would be 6 s behind after 30 s; one that keeps up is a batch or two behind. */
const LAG_SECONDS_LIMIT = 5;
/** From the socket to a query's answer, at half of what the machine takes; the bar of p95 is GlassFlow's figure. */
const LATENCY_MS_LIMITS = { p50Ms: 300, p95Ms: 700, p99Ms: 1000 };

export interface PathLoad {
  eventsPerSecond: number;
  /** Also measure, by single events sent into the load, the time from a socket to a query's answer. */
  probing: boolean;
}

export async function measurePath({ eventsPerSecond, probing }: PathLoad, setting: Setting): Promise<Result> {
  await using target = await startPathTarget();
  await using gateway = await startMeasured("gateway-process.ts", [target.address]);
  await using consumer = await startMeasured("consumer-process.ts", [target.broker, target.clickhouseUrl]);
  const { warehouse } = target;
  const { signal } = setting;
  const port = Number(gateway.details.port);
  const order: LoadOrder = {
    port,
    kind: "connect-protobuf",
    seconds: setting.quick ? 3 : 30,
    connections: CONNECTIONS,
    eventsPerRequest: [EVENTS_PER_REQUEST],
    eventsPerSecond,
  };
  setting.progress("warming up");
  const warmUp = { ...order, seconds: setting.quick ? 1 : 5, eventsPerSecond: WARM_UP_EVENTS_PER_SECOND };
  const { acked: warmUpAcked } = await runLoad(warmUp, signal);
  await rowsReach(warehouse, warmUpAcked, setting, consumer.ended);

  setting.progress(`${eventsPerSecond} events/s for ${order.seconds} s`);
  const before = [await gateway.read(), await consumer.read()] as const;
  const begun = performance.now();
  const [load, latencies] = await Promise.all([
    measureLag(order, target, warmUpAcked, signal),
    probing ? probe(`http://127.0.0.1:${port}`, warehouse, order.seconds, signal) : undefined,
  ]);
  const acked = load.acked + (latencies?.sent ?? 0);
  await rowsReach(warehouse, warmUpAcked + acked, setting, consumer.ended);
  const seconds = (performance.now() - begun) / 1000;
  const after = [await gateway.read(), await consumer.read()] as const;
  const rows = (await countRows(warehouse)) - warmUpAcked;
  expectCounted(acked, rows);
  await verify(target);
  const costs = [0, 1].map((i) => ((after[i]?.cpuUs ?? 0) - (before[i]?.cpuUs ?? 0)) / rows);
  return {
    name: `whole path at ${eventsPerSecond}/s`,
    events: load.events + (latencies?.sent ?? 0),
    acked,
    rows,
    seconds,
    cpuUsPerEvent: (costs[0] as number) + (costs[1] as number),
    rssMaxMb: Math.max(after[0].rssMaxMb, after[1].rssMaxMb),
    cores: load.cores,
    targets: targetsOf(eventsPerSecond, load, latencies),
    note: [
      `gateway ${costs[0]?.toFixed(1)} + consumer ${costs[1]?.toFixed(1)} us`,
      `until the last row; verify 0`,
      ...(latencies ? [`socket to queryable max ${latencies.maxMs} ms`] : []),
    ].join("; "),
  };
}

interface LaggingLoad {
  events: number;
  acked: number;
  /** Acknowledged events a second while the load was on. */
  ackedPerSecond: number;
  /** Rows missing at the moment the load ended. */
  lag: number;
  cores: Record<string, number> | undefined;
}

async function measureLag(
  order: LoadOrder,
  { warehouse }: PathTarget,
  rowsBefore: number,
  signal: AbortSignal,
): Promise<LaggingLoad> {
  const before = readTaken();
  const begun = performance.now();
  // Read while the generator is still there, or its share would be lost.
  const {
    events,
    acked,
    seconds,
    seen: cores,
  } = await runLoad(order, signal, () => coresOf(before, readTaken(), (performance.now() - begun) / 1000));
  const lag = Math.max(0, rowsBefore + acked - (await countRows(warehouse)));
  return { events, acked, ackedPerSecond: acked / seconds, lag, cores };
}

function targetsOf(eventsPerSecond: number, load: LaggingLoad, latencies: Latencies | undefined): Target[] {
  return [
    {
      what: "events/s acked",
      measured: load.ackedPerSecond,
      limit: eventsPerSecond * RATE_SHARE_LIMIT,
      atLeast: true,
    },
    { what: "s behind when the load ended", measured: load.lag / eventsPerSecond, limit: LAG_SECONDS_LIMIT },
    ...(latencies
      ? (["p50Ms", "p95Ms", "p99Ms"] as const).map((at) => ({
          ...{ what: `${at.slice(0, 3)} ms to queryable`, measured: latencies[at], limit: LATENCY_MS_LIMITS[at] },
        }))
      : []),
  ];
}

async function verify({ env }: PathTarget): Promise<void> {
  await using verifying = spawnMillrace(["verify", "--wait", "30s"], env);
  const code = await verifying.exited;
  if (code !== 0) throw new CaseFailedError(`millrace verify ended with ${code}:\n${verifying.lines.join("\n")}`);
}
