// Gateway and two consumers as separate processes on real Kafka and the ClickHouse endpoint; a steady load; a consumer
// killed with -9 again and again, preferably while a range of its is in flight. What is stored must be what was acked.
// As a command: npm run kills -- --seconds 120
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "./clickhouse.ts";
import { kafkaForTests } from "./kafka.ts";
import { runPacedLoad } from "./paced-load.ts";
import { patience } from "./patience.ts";
import { type Spawned, spawnMillrace } from "./processes.ts";

export interface KillOptions {
  seconds: number;
  eventsPerSecond: number;
  /** Pause between kills, milliseconds. */
  pauseMs: { min: number; max: number };
  report(line: string): void;
}

export interface Kill {
  atSeconds: number;
  consumer: string;
  pid: number;
  /** Ranges of the killed consumer's partitions that were in flight when it was dead: "partition:from-to". */
  inFlight: string[];
  /** Rows that landed since the kill before. */
  rowsSince: number;
}

export interface KillReport {
  kills: Kill[];
  acked: number;
  rows: number;
  distinctIds: number;
  /** Acked ids without a row. */
  lost: number;
  /** Rows beyond one an id. */
  doubled: number;
  verifyExitCode: number | null;
  verifyOutput: string;
}

const PARTITIONS = 6;
const SESSION_TIMEOUT = "6s";
/** How long a kill waits for a range in flight before it happens anyway. */
const HOLD_MS_MAX = 5000;
const DRAIN_MS_MAX = patience(120_000);

export async function runConsumerKills(options: KillOptions): Promise<KillReport> {
  const choice = kafkaForTests();
  if (!choice.available) throw new Error(choice.reason);
  await using stack = new AsyncDisposableStack();
  const kafka = stack.use(await choice.start());
  const clickhouse = stack.use(await startTestClickHouse());
  const env = {
    KAFKA_BROKERS: kafka.brokers.join(","),
    KAFKA_PARTITIONS: String(PARTITIONS),
    KAFKA_SESSION_TIMEOUT: SESSION_TIMEOUT,
    CLICKHOUSE_URL: clickhouse.url,
    HOST: "127.0.0.1",
    PORT: "0",
    CONSUMER_PORT: "0",
  };
  const migrated = await spawnMillrace(["migrate"], env).exited;
  if (migrated !== 0) throw new Error(`millrace migrate ended with ${migrated}`);
  const gateway = stack.use(spawnMillrace(["gateway"], env));
  const { port } = await gateway.logged("gateway listening");
  const consumers = new Map<string, Member>();
  for (const name of ["a", "b"]) consumers.set(name, stack.use(startMember(name, env)));
  await Promise.all([...consumers.values()].map((member) => member.process.logged("partition assigned")));

  const log = createKafkaLog({ brokers: kafka.brokers, clientId: "kills", logger: pino({ level: "silent" }) });
  stack.use(log);
  const warehouse = clickhouse.warehouse("millrace");
  const load = runPacedLoad({ url: `http://127.0.0.1:${port}`, ...options });
  const loadEnd = performance.now() + options.seconds * 1000;
  const kills = await killUntil(loadEnd, { options, consumers, env, log, warehouse });
  const { acked, retriedRequests } = await load;
  options.report(`load done: ${acked.size} events acknowledged, ${retriedRequests} requests sent again`);
  await drained(warehouse, acked.size);
  const stored = await compare(warehouse, acked);
  const verify = spawnMillrace(["verify"], env);
  const verifyExitCode = await verify.exited;
  for (const member of consumers.values()) await member.process.stop("SIGKILL");
  return { kills, acked: acked.size, ...stored, verifyExitCode, verifyOutput: verify.lines.join("\n") };
}

interface Member extends AsyncDisposable {
  process: Spawned;
  /** Partitions it was assigned last. */
  partitions: Set<number>;
}

function startMember(_name: string, env: Record<string, string>): Member {
  const spawned = spawnMillrace(["consumer"], env);
  const partitions = new Set<number>();
  let assignedAt = 0;
  spawned.onLog((line) => {
    if (line.message !== "partition assigned" || typeof line.partition !== "number") return;
    // All partitions of one assignment come within moments; a later burst is a new assignment.
    if (performance.now() - assignedAt > 1000) partitions.clear();
    assignedAt = performance.now();
    partitions.add(line.partition);
  });
  return { process: spawned, partitions, [Symbol.asyncDispose]: () => spawned[Symbol.asyncDispose]() };
}

interface KillContext {
  options: KillOptions;
  consumers: Map<string, Member>;
  env: Record<string, string>;
  log: OpenLog;
  warehouse: Warehouse;
}

async function killUntil(end: number, context: KillContext): Promise<Kill[]> {
  const { options, consumers, env, log, warehouse } = context;
  const { min, max } = options.pauseMs;
  const begun = performance.now();
  const kills: Kill[] = [];
  let rowsBefore = 0;
  for (let turn = 0; ; turn++) {
    const pause = min + Math.random() * (max - min);
    if (performance.now() + pause > end) return kills;
    await sleep(pause);
    const name = turn % 2 === 0 ? "a" : "b";
    const member = consumers.get(name) as Member;
    await anyInFlight(log, member, performance.now() + HOLD_MS_MAX);
    const { pid } = member.process;
    await member.process.stop("SIGKILL");
    const inFlight = (await rangesInFlight(log)).filter(({ partition }) => member.partitions.has(partition));
    const rows = await countRows(warehouse);
    const kill: Kill = {
      atSeconds: (performance.now() - begun) / 1000,
      consumer: name,
      pid,
      inFlight: inFlight.map(({ partition, from, to }) => `${partition}:${from}-${to}`),
      rowsSince: rows - rowsBefore,
    };
    rowsBefore = rows;
    kills.push(kill);
    options.report(
      `${kill.atSeconds.toFixed(1)} s: consumer ${name} (pid ${pid}) killed with -9; in flight: ${kill.inFlight.join(", ") || "nothing"}; rows since the last kill: ${kill.rowsSince}`,
    );
    consumers.set(name, startMember(name, env));
  }
}

interface InFlight {
  partition: number;
  from: number;
  to: number;
}

async function rangesInFlight(log: OpenLog): Promise<InFlight[]> {
  const ranges: InFlight[] = [];
  for (const [partition, { offset, metadata }] of await log.committed(EVENTS_TOPIC, CONSUMER_GROUP)) {
    const { to } = JSON.parse(metadata || "{}") as { to?: number };
    if (to !== undefined) ranges.push({ partition, from: offset, to });
  }
  return ranges;
}

async function anyInFlight(log: OpenLog, member: Member, deadline: number): Promise<void> {
  while (performance.now() < deadline) {
    if ((await rangesInFlight(log)).some(({ partition }) => member.partitions.has(partition))) return;
  }
}

async function countRows(warehouse: Warehouse): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw");
  return Number(row?.n);
}

async function drained(warehouse: Warehouse, expected: number): Promise<void> {
  const deadline = performance.now() + DRAIN_MS_MAX;
  while (performance.now() < deadline && (await countRows(warehouse)) < expected) await sleep(500);
  // A double would land with, or right after, the last rows.
  await sleep(3000);
}

async function compare(warehouse: Warehouse, acked: Set<string>) {
  const rows = await warehouse.query<{ id: string }>("SELECT toString(uuid) AS id FROM events_raw");
  const ids = new Set(rows.map(({ id }) => id));
  let lost = 0;
  for (const id of acked) if (!ids.has(id)) lost++;
  return { rows: rows.length, distinctIds: ids.size, lost, doubled: rows.length - ids.size };
}
