// What becomes of appends, consumers and close while the broker is killed, frozen or away. These tests need a broker of
// their own: one that is given by KAFKA_BROKERS belongs to others too.

import { randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createKafkaLog, type KafkaLogOptions } from "#lib/eventlog/kafka/log.ts";
import { AssignmentLostError, LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { assigned, consuming } from "../kit/consuming.ts";
import { appendToOne, everything, readRange, record, text } from "../kit/eventlog-reading.ts";
import { kafkaForTests, type TestBroker } from "../kit/kafka.ts";
import { atMost, patience } from "../kit/patience.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const logger = pino({ level: process.env.LOG_LEVEL ?? "silent" });

let broker: TestBroker;
beforeAll(async () => {
  if (kafka.available && kafka.kind !== "environment") broker = await kafka.start();
});
afterAll(() => broker?.[Symbol.asyncDispose](), patience(30_000));

function openLog(options: Partial<KafkaLogOptions> = {}): OpenLog & AsyncDisposable {
  const log = createKafkaLog({ brokers: broker.brokers, clientId: "e2e", logger, ...options });
  return log;
}

async function freshTopic(log: OpenLog, partitions = 3): Promise<string> {
  const topic = `e2e-${randomUUID()}`;
  await log.createTopics([{ topic, partitions }]);
  return topic;
}

describe.skipIf(!kafka.available)("Kafka: outages", () => {
  it("through kill -9 and freezes of the broker every acknowledged record is on the topic exactly once", async () => {
    await using log = openLog({ appendTimeoutMs: 3_000 });
    await using patient = openLog({ appendTimeoutMs: patience(30_000) });
    const topic = await freshTopic(log);
    const acknowledged = new Map<string, string>();
    const stop = new AbortController();
    const failures: { name: string; error: unknown; ms: number }[] = [];
    const produce = async (name: string, target: OpenLog) => {
      for (let call = 0; !stop.signal.aborted && failures.length < 100; call++) {
        const records = Array.from({ length: 20 }, (_, i) => record(`key-${i}`, `${name}/${call}/${i}`));
        const startedAt = performance.now();
        try {
          const positions = await target.append(topic, records);
          for (const [i, { partition, offset }] of positions.entries()) {
            acknowledged.set(`${partition}@${offset}`, text(records[i]?.value));
          }
        } catch (error) {
          failures.push({ name, error, ms: performance.now() - startedAt });
        }
      }
    };
    const producing = Promise.all([produce("a", log), produce("b", log), produce("patient", patient)]);
    const more = async () => {
      const before = acknowledged.size;
      await expect.poll(() => acknowledged.size, { timeout: 30_000 }).toBeGreaterThan(before + 500);
    };
    await more();
    await broker.kill9(); // Long enough for the impatient to give up.
    await expect.poll(() => failures.length, { timeout: 20_000 }).toBeGreaterThan(1);
    await broker.restart();
    await more();
    await broker.kill9(); // Short enough for the patient to get through.
    await broker.restart();
    await more();
    const failedBefore = failures.length;
    broker.pause();
    await expect.poll(() => failures.length, { timeout: 20_000 }).toBeGreaterThan(failedBefore + 1);
    broker.resume();
    await more();
    stop.abort();
    await producing;

    expect(failures.map(({ name }) => name)).not.toContain("patient");
    for (const { error, ms } of failures) {
      expect(error).toBeInstanceOf(LogUnavailableError);
      expect(ms).toBeLessThan(atMost(4_000));
    }
    const found = await everything(log, topic);
    const values = found.map(({ stored }) => text(stored.value));
    expect(new Set(values).size).toBe(values.length);
    const at = new Map(found.map(({ partition, stored }) => [`${partition}@${stored.offset}`, text(stored.value)]));
    for (const [position, value] of acknowledged) expect(at.get(position)).toBe(value);
    expect(values.filter((value) => value.startsWith("patient")).length % 20).toBe(0);
  });

  it("once an append has used up its time for nothing, the next ones make one try each", async () => {
    await using log = openLog({ brokers: ["127.0.0.1:1"], appendTimeoutMs: 4_000 });
    const timed = async () => {
      const begun = performance.now();
      await expect(log.append("t", [record("k", "v")])).rejects.toBeInstanceOf(LogUnavailableError);
      return performance.now() - begun;
    };
    expect(await timed()).toBeGreaterThan(3_000);
    for (let i = 0; i < 2; i++) expect(await timed()).toBeLessThan(atMost(2_500));
  });

  it("a consumer goes on after the broker was killed and came back", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    await appendToOne(log, topic, 3);
    await using consumer = consuming(log, topic, topic);
    await (await assigned(consumer, 0)).commit({ offset: 2, metadata: "before" });
    await broker.kill9();
    await broker.restart();
    await log.append(topic, [record("one", "after")]);
    const readOn = async () => {
      const assignment = await assigned(consumer, 0);
      try {
        expect((await assignment.committed())?.metadata).toBe("before");
        const records = await readRange((options) => assignment.read(options), 2, 2);
        await assignment.commit({ offset: 4, metadata: "after" });
        return records.map(({ value }) => text(value));
      } catch (error) {
        if (error instanceof AssignmentLostError) return error.name; // Lost with the broker's restart: assigned anew.
        throw error;
      }
    };
    await expect.poll(readOn, { timeout: 60_000 }).toEqual(["value-2", "after"]);
    expect(await log.committed(topic, topic)).toEqual(new Map([[0, { offset: 4, metadata: "after" }]]));
  });

  it("close does not hang on a frozen broker", async () => {
    const log = openLog();
    const topic = await freshTopic(log, 1);
    const consumer = consuming(log, topic, topic);
    await assigned(consumer, 0);
    broker.pause();
    try {
      const startedAt = performance.now();
      await expect(log.check()).rejects.toBeInstanceOf(LogUnavailableError);
      await log[Symbol.asyncDispose]();
      await consumer.ended;
      expect(performance.now() - startedAt).toBeLessThan(atMost(10_000));
    } finally {
      broker.resume();
    }
  });
});
