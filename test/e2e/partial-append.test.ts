// One partition of the topic cannot be written: the events of the others are durable and acknowledged, its own are named.

import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import pino from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { EventService, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import { LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { bytes, everything, keyed, text } from "../kit/eventlog-reading.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { makeAgain } from "../kit/made-again.ts";
import { atMost, patience } from "../kit/patience.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { type ProduceFaults, startProduceFaults } from "../kit/produce-faults.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const PARTITIONS = 4;
const BAD = 2;
/** Of the Kafka protocol: the first may pass, so it is waited for a moment; the second will not. */
const KAFKA_STORAGE_ERROR = 56;
const TOPIC_AUTHORIZATION_FAILED = 29;
const REQUEST_TIMED_OUT = 7;
const ERRORS = [
  ["an error that may pass", KAFKA_STORAGE_ERROR, 6_000],
  ["an error that stays", TOPIC_AUTHORIZATION_FAILED, 1_500],
] as const;

let stack: AsyncDisposableStack;
let faults: ProduceFaults;
beforeAll(async () => {
  stack = new AsyncDisposableStack();
  if (!kafka.available || kafka.kind === "environment") return;
  let brokerPort = 0;
  faults = stack.use(await startProduceFaults(() => brokerPort));
  const broker = stack.use(await kafka.start({ advertisedPort: faults.port }));
  brokerPort = Number(broker.brokers[0]?.split(":")[1]);
});
beforeEach(() => faults?.refuse(undefined));
afterAll(() => stack.disposeAsync(), patience(30_000));

function openLog(): OpenLog & AsyncDisposable {
  const logger = pino({ level: "silent" });
  const log = createKafkaLog({ brokers: [`127.0.0.1:${faults.port}`], clientId: "e2e", logger });
  return log;
}

describe.skipIf(!kafka.available)("one partition that cannot be written", () => {
  it.each(ERRORS)(
    "%s: an append tells where the records of the others are, soon",
    async (_name, errorCode, firstMs) => {
      await using log = openLog();
      const topic = `e2e-${randomUUID()}`;
      await log.createTopics([{ topic, partitions: PARTITIONS }]);
      const records = keyed(50);
      await log.append(topic, records);
      faults.refuse({ partition: BAD, errorCode });
      const begun = performance.now();
      const failure = await log.append(topic, records).catch((error: unknown) => error);
      if (!(failure instanceof PartialAppendError)) throw new Error("the append was not partial", { cause: failure });
      expect(performance.now() - begun).toBeLessThan(atMost(firstMs));
      // A partition that is known to be bad does not hold up further appends at all.
      for (let i = 0; i < 3; i++) await expect(log.append(topic, records)).rejects.toBeInstanceOf(PartialAppendError);
      expect(performance.now() - begun).toBeLessThan(atMost(firstMs + 1_500));
      faults.refuse(undefined);
      const again = await log.append(topic, records);

      expect(again).toHaveLength(records.length);
      const found = await everything(log, topic);
      const at = new Map(found.map(({ partition, stored }) => [`${partition}@${stored.offset}`, text(stored.key)]));
      expect(failure.outcomes).toHaveLength(records.length);
      for (const [i, { key }] of records.entries()) {
        const outcome = failure.outcomes[i];
        if (partitionOf(key, PARTITIONS) === BAD) expect(outcome).toBeInstanceOf(LogUnavailableError);
        else if (outcome === undefined || outcome instanceof Error) expect.unreachable("a good partition's record");
        else expect(at.get(`${outcome.partition}@${outcome.offset}`)).toBe(text(key));
      }
    },
  );

  it("what may be in a topic that was deleted is not put into the one made in its place, and what comes next is", async () => {
    await using log = openLog();
    const topic = `e2e-${randomUUID()}`;
    await log.createTopics([{ topic, partitions: 1 }]);
    await log.append(topic, keyed(3));
    // The broker stores it and does not say so: it is tried again until it does.
    faults.refuse({ partition: 0, errorCode: REQUEST_TIMED_OUT });
    const doubtful = log.append(topic, keyed(1)).catch((error: unknown) => error);
    await expect.poll(() => log.bounds(topic)).toEqual([{ partition: 0, start: 0, end: 4 }]);
    await makeAgain([`127.0.0.1:${faults.port}`], log, topic);
    faults.refuse(undefined);
    expect(await doubtful).toBeInstanceOf(LogUnavailableError);
    expect(await log.bounds(topic)).toEqual([{ partition: 0, start: 0, end: 0 }]);
    const next = () => log.append(topic, keyed(1)).catch((error: unknown) => error);
    await expect.poll(next).toEqual([{ partition: 0, offset: 0 }]);
  });

  it("a request to the gateway is answered OK and names the events to send again", async () => {
    await using log = openLog();
    await log.createTopics([{ topic: EVENTS_TOPIC, partitions: PARTITIONS }]);
    const env = { KAFKA_BROKERS: `127.0.0.1:${faults.port}`, HOST: "127.0.0.1", PORT: "0" };
    await using gateway = spawnMillrace(["gateway"], env);
    const port = (await gateway.logged("gateway listening")).port as number;
    const transport = createConnectTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "1.1" });
    const client = createClient(EventService, transport);
    const events = Array.from({ length: 40 }, (_, i) => ({ id: randomUUID(), event: "e", distinctId: `user-${i}` }));
    const ofBad = events.flatMap(({ distinctId }, i) =>
      partitionOf(bytes(distinctId), PARTITIONS) === BAD ? [i] : [],
    );
    expect(ofBad.length).toBeGreaterThan(3);

    faults.refuse({ partition: BAD, errorCode: TOPIC_AUTHORIZATION_FAILED });
    const answer = await client.publish({ events });
    expect(answer.accepted).toBe(events.length - ofBad.length);
    expect(answer.rejected.map(({ index }) => index)).toEqual(ofBad);
    for (const rejection of answer.rejected) {
      expect(rejection).toMatchObject({ code: RejectionCode.UNAVAILABLE, retryable: true });
    }
    faults.refuse(undefined);
    const rest = await client.publish({ events: ofBad.map((i) => events[i] ?? {}) });
    expect(rest).toMatchObject({ accepted: ofBad.length, rejected: [] });
    const stored = (await everything(log, EVENTS_TOPIC)).map((one) => formatUuid(decodeRecord(one.stored.value).id));
    expect(new Set(stored)).toEqual(new Set(events.map(({ id }) => id)));
  });
});

describe.skipIf(!kafka.available)("commits that a broker does not tell for a moment", () => {
  const GROUP_LOADS = 14;
  const NO_COORDINATOR = 15;
  const NOT_COORDINATOR = 16;
  const GROUP_AUTHORIZATION_FAILED = 30;

  it("are asked for again, whichever retriable error it was; another one is told at once", async () => {
    await using log = openLog();
    const topic = `e2e-${randomUUID()}`;
    await log.createTopics([{ topic, partitions: 1 }]);
    faults.refuseCommits(GROUP_LOADS, NO_COORDINATOR, NOT_COORDINATOR, NOT_COORDINATOR);
    expect(await log.committed(topic, "nobody")).toEqual(new Map());
    expect(faults.refusalsLeft).toBe(0);
    faults.refuseCommits(GROUP_AUTHORIZATION_FAILED, NOT_COORDINATOR);
    await expect(log.committed(topic, "nobody")).rejects.toThrow("Describe on group nobody");
    expect(faults.refusalsLeft).toBe(1);
    await log.committed(topic, "nobody");
  });
});
