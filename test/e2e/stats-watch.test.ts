// Live values from a real Kafka: many partitions, no group, a broker that goes away and comes back.
import { randomBytes } from "node:crypto";
import pino from "pino";
import { expect, it } from "vitest";
import { WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { retryForever } from "#lib/process/retry.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { atMost, patience } from "../kit/patience.ts";
import { pointRecord } from "../kit/points.ts";
import { appendPoints, clientOf, startTestStats, watching } from "../kit/stats-live.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const PARTITIONS = 12;
const SHOWN_MS_MAX = 1_000;

it.skipIf(!kafka.available)(
  "Watch shows points of every Kafka partition within a second, says when the broker is away, and goes on after it",
  async () => {
    if (!kafka.available || kafka.kind === "environment") throw new Error("no broker of this test's own");
    await using broker = await kafka.start();
    const logger = pino({ level: "silent" });
    const open = (clientId: string) => createKafkaLog({ brokers: broker.brokers, clientId, logger });
    const [writing, reading] = [open("writer"), open("stats")];
    await using _logs = {
      [Symbol.asyncDispose]: async () =>
        void (await Promise.all([writing[Symbol.asyncDispose](), reading[Symbol.asyncDispose]()])),
    };
    const topics = [EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: PARTITIONS }));
    // A broker that has just started may not know of the topics yet that it has just made.
    await retryForever(() => writing.createTopics(topics), {
      ...{ signal: AbortSignal.timeout(patience(20_000)), baseMs: 200, capMs: 1_000 },
      isTransient: (error) => error instanceof LogUnavailableError,
      onRetry: () => {},
    });
    await appendPoints(writing, pointRecord({ metric: "old" }));
    await using stats = await startTestStats({ log: reading });
    using watch = watching((signal) => clientOf(stats, "grpc").watch({}, { signal }));
    await expect.poll(() => watch.isLive, { timeout: 10_000 }).toBe(true);

    // One key after another, so that every partition has its turn.
    const delays: number[] = [];
    for (let i = 0; i < 20; i++) {
      await appendPoints(writing, pointRecord({ metric: "cpu", value: i, key: randomBytes(8).toString("hex") }));
      const begun = performance.now();
      await expect.poll(() => watch.points.at(-1), { timeout: 5_000, interval: 5 }).toBe(`cpu=${i}`);
      delays.push(performance.now() - begun);
    }
    expect(Math.max(...delays)).toBeLessThan(atMost(SHOWN_MS_MAX));
    expect(watch.points).toHaveLength(20);
    expect(await reading.committed(POINTS_TOPIC, "stats")).toEqual(new Map());

    await broker.kill9();
    await expect.poll(() => watch.last?.state, { timeout: 10_000 }).toBe(WatchState.INTERRUPTED);
    expect(watch.last?.reason).toMatch(/check that the brokers run/);
    await broker.restart();
    await appendPoints(writing, pointRecord({ metric: "cpu", value: 20 }));
    await expect.poll(() => watch.points.at(-1), { timeout: 15_000 }).toBe("cpu=20");
    await expect.poll(() => watch.isLive, { timeout: 5_000 }).toBe(true);
    expect([watch.points.length, watch.last?.skippedRecords, watch.last?.resets]).toEqual([21, 0n, 0]);
  },
  60_000,
);
