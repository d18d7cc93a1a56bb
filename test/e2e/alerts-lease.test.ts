// The lease of alerts on a real broker: copies as processes, one of them killed and one frozen.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { expect, it } from "vitest";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { ALERTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createAlertStore } from "../../services/stats/alerts/store.ts";
import { definitionOf, insertPoints, startReceiver, storedTransitions } from "../kit/alerts-evaluating.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { until } from "../kit/until.ts";

const COPY = fileURLToPath(new URL("../kit/alerts-copy.ts", import.meta.url));
const SESSION_MS = 1500;
const DATABASE = "lease";
const choice = kafkaForTests();

it.skipIf(!choice.available)(
  "a copy killed while it tells, and one frozen for longer than its session, cost no change and add no id",
  async () => {
    if (!choice.available) return;
    await using stack = new AsyncDisposableStack();
    const { brokers } = stack.use(await choice.start());
    const clickhouse = stack.use(await startTestClickHouse());
    await clickhouse.migrate(DATABASE);
    await createTopic(brokers);
    const warehouse = clickhouse.warehouse(DATABASE);
    const receiver = stack.use(await startReceiver());
    const store = createAlertStore({ warehouse, nowMs: Date.now });
    const alert = await store.create(definitionOf("cpu", receiver.url, { durationMs: 1000, durationText: "1s" }));
    const cpu = stack.use(feed(warehouse));
    const start = () => stack.use(startCopy([brokers.join(","), clickhouse.url, DATABASE, String(SESSION_MS)]));

    const [killed, second] = await agreed(start(), start());
    receiver.behave("hang");
    cpu.value = 90;
    await until(() => receiver.received.length === 1, "the holder tells of the breach");
    await killed.stop("SIGKILL");
    receiver.behave(200);
    await until(() => receiver.taken.length === 1, "the second copy tells of it");

    const [frozen, third] = await agreed(second, start());
    frozen.signal("SIGSTOP");
    cpu.value = 1;
    await until(() => receiver.taken.length === 2, "the other copy tells of the recovery");
    frozen.signal("SIGCONT");
    cpu.value = 90;
    await agreed(frozen, third);
    await until(() => receiver.taken.at(-1)?.payload.level === "CRITICAL", "the second breach is told");

    const isSettled = async () => (await storedTransitions(warehouse, alert.id)).every(({ outcome }) => outcome !== "");
    await until(isSettled, "all is delivered");
    const stored = await storedTransitions(warehouse, alert.id);
    expect(stored.map(({ level, outcome }) => [level, outcome])).toEqual([
      ["crit", "delivered"],
      ["ok", "delivered"],
      ["crit", "delivered"],
    ]);
    const told = receiver.received.map(({ payload }) => payload.transitionId);
    expect(new Set(told)).toEqual(new Set(stored.map(({ id }) => id)));
    expect(told.slice(0, 2)).toEqual([stored[0]?.id, stored[0]?.id]);
  },
  60_000,
);

async function createTopic(brokers: string[]): Promise<void> {
  const log = createKafkaLog({ brokers, clientId: "test", logger: pino({ level: "silent" }) });
  await log.createTopics([{ topic: ALERTS_TOPIC, partitions: 1 }]);
  await log[Symbol.asyncDispose]();
}

/** A point of metric cpu five times a second, as it is told. */
function feed(warehouse: Warehouse) {
  const stopped = new AbortController();
  const state = { value: 1 };
  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      await insertPoints(warehouse, { metric: "cpu", value: state.value, arrivedMs: Date.now() });
      await pause(200);
    }
  }
  const running = run();
  return Object.assign(state, {
    async [Symbol.asyncDispose]() {
      stopped.abort();
      await running;
    },
  });
}

type Copy = ReturnType<typeof startCopy>;

function startCopy(args: string[]) {
  const child = spawn(process.execPath, [COPY, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const joined: { generation: number; holds: boolean }[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [generation, partitions] = line.split(" ").map(Number);
    joined.push({ generation: generation ?? 0, holds: partitions === 1 });
  });
  const exited = once(child, "exit");
  async function stop(signal: NodeJS.Signals): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await exited;
  }
  return {
    joined,
    signal: (signal: NodeJS.Signals) => void child.kill(signal),
    stop,
    [Symbol.asyncDispose]: () => stop("SIGKILL"),
  };
}

/** Waits until both copies are in the group; the first of the result holds the lease. */
async function agreed(a: Copy, b: Copy): Promise<[holder: Copy, other: Copy]> {
  const last = (copy: Copy) => copy.joined.at(-1);
  await until(
    () => last(a)?.generation === last(b)?.generation && last(a)?.holds !== last(b)?.holds,
    "both copies are in one generation",
  );
  return last(a)?.holds ? [a, b] : [b, a];
}
