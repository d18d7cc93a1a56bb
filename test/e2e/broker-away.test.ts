// A gateway under load while its broker is dead or frozen. Each outage here is as short as it can be to be felt;
// BROKER_AWAY_SECONDS=60 makes it a minute, and prints what was measured.

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { describe, expect, it } from "vitest";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { everything } from "../kit/eventlog-reading.ts";
import { callH1 } from "../kit/http-calls.ts";
import { kafkaForTests, type TestBroker } from "../kit/kafka.ts";
import { atMost, patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { type Callers, startCallers } from "../kit/steady-callers.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const AWAY_MS = 1_000 * Number(process.env.BROKER_AWAY_SECONDS ?? 18);
const CALLERS = 300;
/** What is said of the gateway: events wait 10 s for their append to begin, looked at once a second, and 15 s for it to end. */
const ANSWER_MS_MAX = 26_000;
/** Once an append has failed, only those that are tried wait longer than this, and at most as long as one try takes. */
const AWAY_ANSWER_MS = 1_500;
const AWAY_ANSWER_MS_MAX = 8_000;
/** When the first append of an outage, made before the caller's request or with it, has failed for certain. */
const NOTICED_MS = 16_000;
const RECOVERY_MS_MAX = 10_000;
const RSS_MB_MAX = 400;
const BYTES_IN_FLIGHT_MAX = 16 * 1024 * 1024;
/** Log files, listener, event loop; then connections to the broker, of which a dead one must not leave any behind. */
const OTHER_FILES_MAX = 60;

describe.skipIf(!kafka.available)(
  "a broker that is away for a while",
  { timeout: patience(120_000) + 2 * AWAY_MS },
  () => {
    it.concurrent("killed: callers are refused in time, and served again soon after its return", () =>
      outage({ name: "killed", begin: (broker) => broker.kill9(), end: (broker) => broker.restart() }));

    it.concurrent("frozen: callers are refused in time, and served again soon after its return", () =>
      outage({ name: "frozen", begin: async (broker) => broker.pause(), end: async (broker) => broker.resume() }));
  },
);

interface Fault {
  name: string;
  begin(broker: TestBroker): Promise<void>;
  end(broker: TestBroker): Promise<void>;
}

async function outage(fault: Fault): Promise<void> {
  if (!kafka.available || kafka.kind === "environment") throw new Error("no broker of this test's own");
  await using broker = await kafka.start();
  const log = createKafkaLog({ brokers: broker.brokers, clientId: "e2e", logger: pino({ level: "silent" }) });
  await using _log = { [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 6 }]);
  const env = { KAFKA_BROKERS: broker.brokers.join(), HOST: "127.0.0.1", PORT: "0" };
  await using gateway = spawnMillrace(["gateway"], env);
  const port = (await gateway.logged("gateway listening")).port as number;
  using callers = startCallers({ port, eventsPerSecond: 2_000, callers: CALLERS });
  await expect.poll(() => callers.acked.size, { timeout: 20_000 }).toBeGreaterThan(4_000);
  await using watch = watching(gateway, port);

  await fault.begin(broker);
  const begun = performance.now();
  await sleep(AWAY_MS); // The outage itself.
  const refusals = callers.answers.filter(({ at, code }) => at > begun && code !== "ok");
  const ackedAway = callers.answers.filter(({ at, code }) => at > begun + 500 && code === "ok");
  const readiness = await callH1(port, "/readyz", { method: "GET" });
  const openWhileAway = watch.openFiles;
  await fault.end(broker);
  const returned = performance.now();
  const firstOk = () => callers.answers.find(({ at, code }) => at > begun + AWAY_MS && code === "ok");
  await expect.poll(firstOk, { timeout: 2 * RECOVERY_MS_MAX, interval: 50 }).toBeDefined();
  const recoveryMs = Math.max(0, (firstOk()?.at ?? 0) - returned);
  await expect.poll(() => isReady(port), { timeout: RECOVERY_MS_MAX }).toBe(true);
  await callers.finish();

  const stored = (await everything(log, EVENTS_TOPIC)).map(({ stored: { value } }) =>
    formatUuid(decodeRecord(value).id),
  );
  const storedIds = new Set(stored);
  const measured = {
    ...report(fault.name, begun, callers, recoveryMs),
    rssMb: watch.rssMaxMb,
    bytesInFlight: watch.bytesInFlightMax,
    openFiles: openWhileAway,
    acked: callers.acked.size,
    storedTwice: stored.length - storedIds.size,
  };
  if (process.env.BROKER_AWAY_SECONDS) process.stdout.write(`${JSON.stringify(measured)}\n`);

  expect([...callers.acked].filter((id) => !storedIds.has(id))).toEqual([]);
  expect(callers.acked.size).toBe(callers.sent.size);
  expect(ackedAway).toEqual([]);
  expect(refusals.length).toBeGreaterThan(10);
  for (const { status, code, retryAfter } of refusals) {
    expect(["unavailable", "resource_exhausted"]).toContain(code);
    expect(status).toBe(code === "unavailable" ? 503 : 429);
    expect(retryAfter).toBe("1");
  }
  expect(Math.max(...callers.answers.map(({ ms }) => ms))).toBeLessThan(atMost(ANSWER_MS_MAX));
  const later = refusals.filter(({ at, ms }) => at - ms > begun + NOTICED_MS).map(({ ms }) => ms);
  if (later.length > 0) {
    expect(later.sort((a, b) => a - b)[Math.floor(later.length / 2)]).toBeLessThan(atMost(AWAY_ANSWER_MS));
    expect(Math.max(...later)).toBeLessThan(atMost(AWAY_ANSWER_MS_MAX));
  }
  expect(readiness.status).toBe(503);
  expect(readiness.text).toMatch(/"log":"(no answer|Kafka at 127\.0\.0\.1)/);
  expect(recoveryMs).toBeLessThan(atMost(RECOVERY_MS_MAX));
  expect(watch.rssMaxMb).toBeLessThan(RSS_MB_MAX);
  expect(watch.bytesInFlightMax).toBeLessThanOrEqual(BYTES_IN_FLIGHT_MAX);
  expect(openWhileAway).toBeLessThan(CALLERS + OTHER_FILES_MAX);
}

async function isReady(port: number): Promise<boolean> {
  return (await callH1(port, "/readyz", { method: "GET" })).status === 200;
}

/** Looks at the gateway's process five times a second. */
function watching(gateway: Spawned, port: number) {
  const seen = { bytesInFlightMax: 0, openFiles: 0 };
  const stop = new AbortController();
  async function watch(): Promise<void> {
    while (!stop.signal.aborted) {
      const { text } = await callH1(port, "/metrics", { method: "GET" });
      const [, bytes] = /^millrace_gateway_in_flight_bytes (\d+)$/m.exec(text) ?? [];
      seen.bytesInFlightMax = Math.max(seen.bytesInFlightMax, Number(bytes));
      seen.openFiles = readdirSync(`/proc/${gateway.pid}/fd`).length;
      await sleep(200);
    }
  }
  const running = watch();
  return {
    get bytesInFlightMax() {
      return seen.bytesInFlightMax;
    },
    get openFiles() {
      return seen.openFiles;
    },
    /** Highest resident set of the process so far, MB of 10^6 bytes. */
    get rssMaxMb() {
      const status = readFileSync(`/proc/${gateway.pid}/status`, "utf8");
      return (Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

function report(name: string, begun: number, { answers }: Callers, recoveryMs: number) {
  const refused = answers.filter(({ at, code }) => at > begun && code !== "ok");
  const ms = refused.map((answer) => answer.ms).sort((a, b) => a - b);
  const at = (share: number) => Math.round(ms[Math.floor(share * (ms.length - 1))] ?? 0);
  const codes = Object.groupBy(refused, ({ status, code }) => `${status} ${code}`);
  const counts = Object.fromEntries(Object.entries(codes).map(([code, list]) => [code, list?.length]));
  const firstMs = Math.round((refused[0]?.at ?? 0) - begun);
  return { name, refused: counts, firstMs, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1), recoveryMs };
}
