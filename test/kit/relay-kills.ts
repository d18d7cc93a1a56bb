// Relay, two consumers and two copies of stats as separate processes on real Kafka and the ClickHouse endpoint; relays that
// are polled ten times a second; one process after another killed with -9, by a seed. What is stored must be what the
// relays answered, once each, but for what a killed relay process held; the roll-up must be equal to it; and the receiver
// of an alert that opens and closes meanwhile must have seen two changes.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";
import { createRelayClient } from "#lib/relay-protocol/client.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { idsOf, type Receiver, startReceiver } from "./alerts-evaluating.ts";
import { startTestClickHouse } from "./clickhouse.ts";
import { clockEnvironment, setClock } from "./clock.ts";
import { kafkaForTests } from "./kafka.ts";
import { patience } from "./patience.ts";
import { spawnMillrace } from "./processes.ts";
import { createRandom } from "./random.ts";
import { createService, type Service } from "./service.ts";
import { until } from "./until.ts";

export interface RelayKillOptions {
  seconds: number;
  seed: number;
  report(line: string): void;
}

export interface RelayKillReport {
  /** By the command that was killed. */
  kills: Record<Command, number>;
  /** Values that collectors gave when their relay was polled. */
  answered: number;
  stored: number;
  /** Share of the answered that is stored. */
  share: number;
  /** Values that are stored more than once. */
  doubled: number;
  /** Values that are stored and that nobody gave. */
  foreign: number;
  /** Series whose roll-up differs from their points. */
  differing: number;
  rolledUp: number;
  /** Questions about /latest that were answered with 200. */
  questions: number;
  /** Different ids of the messages that the receiver was sent, by level, in the order of their first coming. */
  transitions: string[];
  verifyExitCode: number | null;
  verifyOutput: string;
}

type Command = "relay" | "consumer" | "stats";

const HOSTS = 10;
const METRICS = ["load_a", "load_b", "load_c", "load_d"];
const PAUSE_MS = { min: 2_500, max: 3_600 };
/** Each once at first, then the others, and so on: a relay process takes along what it holds, about one poll of its relays. */
const ROUND: readonly Command[][] = [
  ["relay", "consumer", "stats"],
  ["consumer", "stats", "consumer", "stats"],
];
/** The consumers' clocks are so far ahead that the slot under way counts as over: rows go on falling into closed slots. */
const AHEAD_MS = 600_000;
const SETTLE_MS_MAX = patience(60_000);
const ALERT = { metric: "level", level: "crit", operator: "gt", threshold: 80, duration: "3s" };

export async function runRelayKills(options: RelayKillOptions): Promise<RelayKillReport> {
  await using stack = new AsyncDisposableStack();
  const { services, log, warehouse, verify } = await startServices(stack);
  const receiver = stack.use(await startReceiver());
  await postAlert(statsUrls(services)[0] ?? "", receiver.url);
  const relays = connectRelays(stack, Number(services.relay[0]?.ready.port));

  const loading = new AbortController();
  stack.defer(() => loading.abort());
  const questions = askLatest(services, loading.signal);
  const end = performance.now() + options.seconds * 1000;
  setLevel(stack, relays, options.seconds * 1000);
  const kills = await killUntil(end, services, options);
  // A window without points keeps the level, so the polls go on until it is told.
  await until(() => recovered(receiver), "the receiver hears of the recovery", SETTLE_MS_MAX);
  relays.stop();
  loading.abort();
  const count = async () => Number((await warehouse.query<{ n: string }>("SELECT count() AS n FROM points"))[0]?.n);
  await drained(log);
  const answers = await compare(warehouse, relays.answered);
  await until(async () => (await rolledUp(warehouse)) === (await count()), "all is rolled up", SETTLE_MS_MAX);
  const verified = await verify();
  return {
    ...{ kills, ...answers, ...verified, questions: await questions },
    differing: await differingSeries(warehouse),
    rolledUp: await rolledUp(warehouse),
    transitions: changesOf(receiver),
  };
}

type Services = Record<Command, readonly Service[]>;

async function startServices(stack: AsyncDisposableStack) {
  const choice = kafkaForTests();
  if (!choice.available) throw new Error(choice.reason);
  const kafka = stack.use(await choice.start());
  const clickhouse = stack.use(await startTestClickHouse());
  const directory = await mkdtemp(join(tmpdir(), "millrace-relay-kills-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const clock = join(directory, "clock");
  await setClock(clock, AHEAD_MS);
  const env = {
    ...{ KAFKA_BROKERS: kafka.brokers.join(","), KAFKA_PARTITIONS: "2", KAFKA_SESSION_TIMEOUT: "3s" },
    ...{ CLICKHOUSE_URL: clickhouse.url, HOST: "127.0.0.1" },
  };
  const run = async (command: string) => {
    await using child = spawnMillrace([command], env);
    return { verifyExitCode: await child.exited, verifyOutput: child.lines.join("\n") };
  };
  const migrated = await run("migrate");
  if (migrated.verifyExitCode !== 0) throw new Error(migrated.verifyOutput);
  const ended: string[] = [];
  const service = (command: Command, number: number, readyMessage: string, own: Record<string, string>) => {
    const onEnded = (account: string) => void ended.push(account);
    const name = `${command}-${number}`;
    return stack.use(createService({ name, command, env: Object.assign(own, env), readyMessage, onEnded }));
  };
  const relayEnv: Record<string, string> = { RELAY_PORT: "0", RELAY_HTTP_PORT: "0", POLL_INTERVAL: "100ms" };
  const consumerEnv = () => ({ CONSUMER_PORT: "0", FLUSH_INTERVAL: "200ms", ...clockEnvironment(clock) });
  const statsEnv = () => ({ STATS_PORT: "0", ALERT_INTERVAL: "1s", WEBHOOK_ALLOW_PRIVATE: "true", POLL_INTERVAL: "1" });
  const services: Services = {
    relay: [service("relay", 1, "relay listening", relayEnv)],
    consumer: [1, 2].map((n) => service("consumer", n, "health and metrics are served", consumerEnv())),
    stats: [1, 2].map((n) => service("stats", n, "stats listening", statsEnv())),
  };
  await Promise.all(Object.values(services).flatMap((all) => all.map((each) => each.start())));
  // From now on where its clients look for it.
  relayEnv.RELAY_PORT = String(services.relay[0]?.ready.port);
  const verify = async () => {
    if (ended.length > 0) throw new Error(`ended by themselves:\n${ended.join("\n")}`);
    return run("verify");
  };
  const log = createKafkaLog({ brokers: kafka.brokers, clientId: "kills", logger: pino({ level: "silent" }) });
  stack.use(log);
  return { services, log, warehouse: clickhouse.warehouse("millrace"), verify };
}

interface Relays {
  /** How often each host was polled. Each time, each of its METRICS had this number. */
  readonly answered: ReadonlyMap<string, number>;
  level: number;
  stop(): void;
}

function connectRelays(stack: AsyncDisposableStack, port: number): Relays {
  const answered = new Map<string, number>();
  const state = { level: 1, isStopped: false };
  for (let i = 0; i < HOSTS; i++) {
    const id = `host-${i}`;
    answered.set(id, 0);
    const client = createRelayClient({ host: "127.0.0.1", port, id, reconnectMs: { min: 50, max: 200 } });
    stack.defer(() => client.close());
    client.add("load", () => {
      if (state.isStopped) return {};
      const n = (answered.get(id) ?? 0) + 1;
      answered.set(id, n);
      return Object.fromEntries(METRICS.map((metric) => [metric, n]));
    });
    if (i > 0) continue;
    client.add("level", () => {
      return state.isStopped ? {} : { level: state.level };
    });
  }
  return Object.assign(state, {
    answered,
    stop: () => void Object.assign(state, { isStopped: true }),
  });
}

/** High in the second third. */
function setLevel(stack: AsyncDisposableStack, relays: Relays, ms: number): void {
  for (const [after, level] of [
    [ms / 3, 90],
    [(2 * ms) / 3, 1],
  ] as const) {
    const timer = setTimeout(() => Object.assign(relays, { level }), after);
    stack.defer(() => clearTimeout(timer));
  }
}

async function killUntil(end: number, services: Services, { seed, report }: RelayKillOptions) {
  const random = createRandom(seed);
  const kills: Record<Command, number> = { relay: 0, consumer: 0, stats: 0 };
  let bag: Command[] = [];
  for (;;) {
    const pause = random.integer(PAUSE_MS.min, PAUSE_MS.max);
    if (performance.now() + pause > end) return kills;
    await sleep(pause);
    if (bag.length === 0) bag = ROUND.flatMap((some) => random.shuffle(some));
    const command = bag.shift() as Command;
    const victim = random.pick(services[command]);
    const { pid } = victim.process;
    await victim.stop("SIGKILL");
    kills[command]++;
    report(`${victim.name} (pid ${pid}) killed with -9`);
    await victim.start();
  }
}

function statsUrls({ stats }: Services): string[] {
  return stats.filter(({ isRunning }) => isRunning).map(({ ready }) => `http://127.0.0.1:${ready.port}`);
}

async function postAlert(url: string, post: string): Promise<void> {
  const answer = await fetch(`${url}/alerts`, { method: "POST", body: JSON.stringify({ ...ALERT, post }) });
  if (!answer.ok) throw new Error(await answer.text());
}

/** Keeps both copies busy; resolves with the number of answers when told to end. */
async function askLatest(services: Services, signal: AbortSignal): Promise<number> {
  let answers = 0;
  while (!signal.aborted) {
    for (const url of statsUrls(services)) {
      // A copy that is killed while it answers is what this is about; the next one is asked.
      const answer = await fetch(`${url}/latest/load_a?verb=max`).catch(() => undefined);
      if (answer?.status === 200) answers++;
      await answer?.body?.cancel();
    }
    await sleep(50);
  }
  return answers;
}

/** Waits until the consumers have committed everything that is on the log. */
async function drained(log: OpenLog): Promise<void> {
  const isDone = async () => {
    const committed = await log.committed(POINTS_TOPIC, POINTS_GROUP);
    return (await log.bounds(POINTS_TOPIC)).every(
      ({ partition, end, start }) => end === start || (committed.get(partition)?.offset ?? start) >= end,
    );
  };
  await until(isDone, "the consumers have committed all points", SETTLE_MS_MAX);
}

async function compare(warehouse: Warehouse, answered: ReadonlyMap<string, number>) {
  const rows = await warehouse.query<{ host: string; metric: string; value: number; times: number }>(
    `SELECT tags['host'] AS host, metric, value, toUInt32(count()) AS times FROM points
     WHERE metric IN {metrics:Array(String)} GROUP BY host, metric, value`,
    { params: { metrics: METRICS } },
  );
  const all = METRICS.length * [...answered.values()].reduce((sum, n) => sum + n, 0);
  const isForeign = ({ host, value }: (typeof rows)[number]) =>
    !Number.isInteger(value) || value < 1 || value > (answered.get(host) ?? 0);
  return {
    answered: all,
    stored: rows.length,
    share: rows.length / all,
    doubled: rows.filter(({ times }) => times > 1).length,
    foreign: rows.filter(isForeign).length,
  };
}

async function rolledUp(warehouse: Warehouse): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT sum(count) AS n FROM points_5m FINAL");
  return Number(row?.n);
}

/** Worked out here, beside what `verify` says. */
async function differingSeries(warehouse: Warehouse): Promise<number> {
  // Sums of whole numbers are exact.
  const [row] = await warehouse.query<{ n: number }>(
    `SELECT toUInt32(count()) AS n FROM (
       SELECT metric, series, slot FROM (
         SELECT metric, toString(r.tags) AS series, toStartOfFiveMinutes(log_time) AS slot, toUInt64(count()) AS points,
           sum(value) AS total, min(value) AS low, max(value) AS high FROM points AS r GROUP BY metric, series, slot
         UNION ALL
         SELECT metric, toString(r.tags) AS series, r.slot AS slot, sum(r.count) AS points, sum(r.sum) AS total,
           min(r.min) AS low, max(r.max) AS high
         FROM (SELECT * FROM points_5m FINAL) AS r GROUP BY metric, series, slot
       ) GROUP BY metric, series, slot HAVING count() != 2 OR uniqExact(points, total, low, high) != 1
     )`,
  );
  return row?.n ?? 0;
}

function recovered({ taken }: Receiver): boolean {
  return taken.at(-1)?.payload.level === "OK";
}

function changesOf({ received }: Receiver): string[] {
  const levels = new Map(received.map(({ payload }) => [payload.transitionId, payload.level]));
  return [...new Set(idsOf(received))].map((id) => levels.get(id) ?? "");
}
