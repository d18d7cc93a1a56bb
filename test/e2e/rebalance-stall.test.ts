// How long a partition stands still when consumers come and go: on real Kafka, with everything as processes.
import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { runPacedLoad } from "../kit/paced-load.ts";
import { atMost, patience } from "../kit/patience.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { until } from "../kit/until.ts";

const PARTITIONS = 6;
const EVENTS_PER_SECOND = 1000;
const STALL_MS_MAX = 15_000;
const LOAD_SECONDS = 28;
const choice = kafkaForTests();

it.skipIf(!choice.available)(
  "no partition stands still for more than 15 s while one consumer leaves, one is killed and one joins",
  async () => {
    if (!choice.available) return;
    await using stack = new AsyncDisposableStack();
    const { brokers } = stack.use(await choice.start());
    const clickhouse = stack.use(await startTestClickHouse());
    const env = {
      ...{ KAFKA_BROKERS: brokers.join(","), KAFKA_PARTITIONS: String(PARTITIONS), KAFKA_SESSION_TIMEOUT: "6s" },
      ...{ CLICKHOUSE_URL: clickhouse.url, HOST: "127.0.0.1", PORT: "0", CONSUMER_PORT: "0" },
    };
    expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
    const gateway = stack.use(spawnMillrace(["gateway"], env));
    const startConsumer = () => stack.use(spawnMillrace(["consumer"], env));
    const [leaver, victim, stayer] = [startConsumer(), startConsumer(), startConsumer()];
    const { port } = await gateway.logged("gateway listening");
    await Promise.all([leaver, victim, stayer].map((one) => one.logged("partition assigned")));

    const warehouse = clickhouse.warehouse("millrace");
    const load = runPacedLoad({
      url: `http://127.0.0.1:${port}`,
      eventsPerSecond: EVENTS_PER_SECOND,
      seconds: LOAD_SECONDS,
    });
    const watch = watchProgress(warehouse);
    stack.defer(async () => void (await watch.stop()));
    await watch.allMoved();
    watch.begin();
    const faults: [string, () => Promise<unknown>][] = [
      ["SIGTERM", () => leaver.stop("SIGTERM")],
      ["kill -9", () => victim.stop("SIGKILL")],
      ["join", () => startConsumer().logged("partition assigned")],
    ];
    const settledMs: Record<string, number> = {};
    for (const [name, act] of faults) {
      const begun = performance.now();
      await act();
      await watch.allMoved();
      settledMs[name] = Math.round(performance.now() - begun);
    }
    const { acked, retriedRequests } = await load;
    const stalls = await watch.stop();
    await until(async () => (await countRows(warehouse)).rows >= acked.size, "everything is stored", patience(30_000));
    process.stdout.write(`${JSON.stringify({ ...stalls, settledMs, acked: acked.size })}\n`);

    expect(Object.keys(stalls.longestMs)).toHaveLength(PARTITIONS);
    for (const ms of Object.values(stalls.longestMs)) expect(ms).toBeLessThanOrEqual(atMost(STALL_MS_MAX));
    expect(stalls.allMs).toBeLessThanOrEqual(atMost(STALL_MS_MAX));
    expect(retriedRequests).toBe(0);
    expect(await countRows(warehouse)).toEqual({ rows: acked.size, ids: acked.size });
    const verify = spawnMillrace(["verify"], env);
    expect(await verify.exited, verify.lines.join("\n")).toBe(0);
  },
  180_000,
);

interface Stalls {
  /** By partition: its longest time without a new row. */
  longestMs: Record<string, number>;
  /** Longest time in which no partition had a new row. */
  allMs: number;
}

interface Watch {
  /** Forgets the stalls so far. */
  begin(): void;
  /** Resolves when each partition has had a new row since the call. */
  allMoved(): Promise<void>;
  stop(): Promise<Stalls>;
}

const POLL_MS = 200;

/** Looks at what is stored of each partition; times are accurate to the poll. */
function watchProgress(warehouse: Warehouse): Watch {
  const stopped = new AbortController();
  const partitions = new Map<number, { highest: number; movedAt: number; longestMs: number }>();
  let movedAt = performance.now();
  let allMs = 0;

  async function look(): Promise<void> {
    const rows = await warehouse.query<{ p: number; highest: string }>(
      "SELECT log_partition AS p, max(log_offset) AS highest FROM events_raw GROUP BY p",
    );
    const now = performance.now();
    for (const { p, highest } of rows) {
      const known = partitions.get(p) ?? { highest: -1, movedAt: now, longestMs: 0 };
      partitions.set(p, known);
      known.longestMs = Math.max(known.longestMs, now - known.movedAt);
      if (Number(highest) <= known.highest) continue;
      known.highest = Number(highest);
      known.movedAt = now;
      movedAt = now;
    }
    allMs = Math.max(allMs, now - movedAt);
  }
  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      await look();
      await pause(POLL_MS);
    }
  }
  const running = run();

  return {
    begin() {
      allMs = 0;
      for (const partition of partitions.values()) partition.longestMs = 0;
    },
    async allMoved() {
      const begun = performance.now();
      const haveMoved = () =>
        partitions.size === PARTITIONS && [...partitions.values()].every((partition) => partition.movedAt > begun);
      await until(haveMoved, "every partition has new rows", patience(2 * STALL_MS_MAX));
    },
    async stop() {
      stopped.abort();
      await running;
      const longest = [...partitions].map(([p, { longestMs }]) => [String(p), Math.round(longestMs)]);
      return { longestMs: Object.fromEntries(longest), allMs: Math.round(allMs) };
    },
  };
}

async function countRows(warehouse: Warehouse): Promise<{ rows: number; ids: number }> {
  const [row] = await warehouse.query<{ n: string; ids: string }>(
    "SELECT count() AS n, uniqExact(uuid) AS ids FROM events_raw",
  );
  return { rows: Number(row?.n), ids: Number(row?.ids) };
}
