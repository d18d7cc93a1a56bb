// Logs that are not what they were: wiped, refilled, trimmed, without commits. Old tokens must never swallow new events,
// and what cannot be known must stop the partition with a remedy.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { acceptLost, lostCount } from "../../commands/verify/accept.ts";
import { isSound, verifyTopic } from "../../commands/verify/verify.ts";
import { auditStored, exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf, poisonRecord, type RunningConsumer, type Stage } from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("reset");
  warehouse = clickhouse.warehouse("reset");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const events = (count: number) => Array.from({ length: count }, (_, n) => eventRecord({ id: idOf(n) }));

/** A log with these records, all of them stored, and nobody consuming. */
async function storedStage(epoch: string, count: number, now?: () => number): Promise<Stage> {
  const stage = await createStage(warehouse, { epoch, ...(now ? { now } : {}) });
  await stage.append(...events(count));
  const consumer = stage.start();
  await stage.drained();
  await consumer[Symbol.asyncDispose]();
  return stage;
}

async function haltOf(consumer: RunningConsumer): Promise<string> {
  await until(async () => (await haltedNow(consumer)) !== undefined, "the partition halts");
  const reason = (await haltedNow(consumer)) as string;
  expect(consumer.warnings).toContainEqual(
    expect.objectContaining({
      level: 50,
      msg: "partition halted",
      err: expect.objectContaining({ message: expect.stringContaining(reason) }),
    }),
  );
  expect(consumer.failure()).toBeUndefined();
  return reason;
}

async function haltedNow(consumer: RunningConsumer): Promise<string | undefined> {
  const check = consumer.checks.find(({ name }) => name === "partitions");
  return check?.check(AbortSignal.timeout(patience(1000))).then(
    () => undefined,
    (error: Error) => error.message,
  );
}

async function rowsOf(epoch: string): Promise<number> {
  return (await auditStored(warehouse, epoch, new Map())).rows;
}

describe("a log that was wiped", () => {
  it.each([
    ["with its commits", false],
    ["but for its commits", true],
  ])("%s halts the partition while it is shorter than what is stored", async (name, keepCommits) => {
    await using stage = await storedStage(`wiped ${name}`, 20);
    stage.log.wipe(EVENTS_TOPIC, keepCommits);
    await stage.append(...events(5));
    const consumer = stage.start();
    expect(await haltOf(consumer)).toMatch(/log ends at offset 5, but offset 19 .*migrate --new-epoch/);
    expect(await stage.metric(consumer, "millrace_partition_halted")).toBe(1);
    expect(await rowsOf(stage.epoch)).toBe(20);
  });

  it.each([
    ["with its commits", false],
    ["but for its commits", true],
  ])("%s and refilled past the old end halts it by the append time", async (name, keepCommits) => {
    let now = 1_790_000_000_000;
    await using stage = await storedStage(`refilled ${name}`, 20, () => now);
    stage.log.wipe(EVENTS_TOPIC, keepCommits);
    now += 1000;
    await stage.append(...events(30));
    expect(await haltOf(stage.start())).toMatch(/offset 19 is not the one stored.*reset and refilled.*new-epoch/);
    expect(await rowsOf(stage.epoch)).toBe(20);
  });

  it("is found out although its last stored record was no row", async () => {
    let now = 1_790_000_000_000;
    await using stage = await createStage(warehouse, { epoch: "refilled-outcome", now: () => now });
    await stage.append(...events(3), poisonRecord);
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    stage.log.wipe(EVENTS_TOPIC, true);
    now += 1000;
    await stage.append(...events(10));
    expect(await haltOf(stage.start())).toMatch(/offset 3 is not the one stored/);
  });

  it("while the consumer runs halts the partition at its next read", async () => {
    await using stage = await createStage(warehouse, { epoch: "running" });
    await stage.append(...events(20));
    const consumer = stage.start();
    await stage.drained();
    stage.log.wipe(EVENTS_TOPIC, true);
    await stage.append(...events(5));
    expect(await haltOf(consumer)).toMatch(/offset 20 .*migrate --new-epoch/);
    expect(await rowsOf("running")).toBe(20);
  });

  it("under a new epoch is stored whole, although old tokens and ids name the same", async () => {
    await using stage = await storedStage("epoch-1", 20);
    stage.log.wipe(EVENTS_TOPIC, true);
    // The commit of the old epoch is still there, and says 20.
    await stage.append(...events(25));
    stage.start({ log: (inner) => ({ ...inner, epoch: async () => "epoch-2" }) });
    await stage.drained();
    expect(await auditStored(warehouse, "epoch-2", new Map([[0, 25]]))).toMatchObject(exactlyOnce({ rows: 25 }));
    expect(await auditStored(warehouse, "epoch-1", new Map([[0, 20]]))).toMatchObject(exactlyOnce({ rows: 20 }));
  });

  it("in the middle of a range in flight halts the partition, and does not wait for the rest of it", async () => {
    await using stage = await createStage(warehouse, { epoch: "marker-beyond" });
    await stage.append(...events(5));
    const marker = { offset: 0, metadata: JSON.stringify({ epoch: "marker-beyond", to: 19 }) };
    await commitByHand(stage, marker);
    expect(await haltOf(stage.start())).toMatch(/offset 0 is next, 19 was in flight.*log has 0 to 5.*new-epoch/);
    expect(await rowsOf("marker-beyond")).toBe(0);
  });
});

async function commitByHand(stage: Stage, commit: { offset: number; metadata: string }): Promise<void> {
  const leaving = new AbortController();
  await stage.log.consume({
    topic: EVENTS_TOPIC,
    group: CONSUMER_GROUP,
    signal: leaving.signal,
    async onAssigned(assignment) {
      await assignment.commit(commit);
      leaving.abort();
    },
  });
}

describe("a log whose commits are gone", () => {
  it("is continued where progress was last noted, and exactly what is missing is stored", async () => {
    await using stage = await storedStage("no-commit", 20);
    await stage.append(...events(5), eventRecord());
    await forgetCommits(stage);
    await stage.append(eventRecord());
    let firstRead: number | undefined;
    stage.start({
      log: (inner) => ({
        ...inner,
        consume: (options) =>
          inner.consume({
            ...options,
            onAssigned: (assignment) =>
              options.onAssigned({
                ...assignment,
                async read(wanted) {
                  // Looking at the record of the last stored offset is no consuming.
                  if (wanted.maxRecords > 1) firstRead ??= wanted.from;
                  return assignment.read(wanted);
                },
              }),
          }),
      }),
    });
    await stage.drained();
    expect(firstRead).toBe(20);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 22, duplicates: 5 }));
  });

  it("and whose progress was not noted in time is compared with what is stored", async () => {
    await using stage = await storedStage("no-progress", 20);
    await warehouse.command(
      "ALTER TABLE log_progress DELETE WHERE log_epoch = 'no-progress' SETTINGS mutations_sync = 2",
    );
    await warehouse.command(
      "ALTER TABLE events_raw DELETE WHERE log_epoch = 'no-progress' AND log_offset IN (3, 7, 8) SETTINGS mutations_sync = 2",
    );
    await forgetCommits(stage);
    await stage.append(...events(2), eventRecord());
    stage.start({ config: { batchSize: 6 } });
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 21, duplicates: 2 }));
  });

  it("but for one that somebody else made is treated the same", async () => {
    await using stage = await storedStage("foreign-commit", 20);
    await commitByHand(stage, { offset: 7, metadata: "kafka-consumer-groups --reset-offsets" });
    await stage.append(eventRecord());
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 21 }));
  });

  it("set back by hand to an offset of ours, is read again and stores nothing twice", async () => {
    await using stage = await storedStage("set-back", 20);
    await commitByHand(stage, { offset: 7, metadata: JSON.stringify({ epoch: "set-back" }) });
    await stage.append(eventRecord());
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 21 }));
  });
});

async function forgetCommits(stage: Stage): Promise<void> {
  await commitByHand(stage, { offset: 0, metadata: "" });
}

describe("a log that was trimmed", () => {
  it("below what is committed goes on", async () => {
    await using stage = await storedStage("trimmed", 20);
    await stage.log.trim(EVENTS_TOPIC, 0, 20);
    await stage.append(eventRecord());
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 21 }));
  });

  it("beyond what is committed halts the partition: something was lost", async () => {
    await using stage = await storedStage("trimmed-beyond", 20);
    await stage.append(...Array.from({ length: 10 }, () => eventRecord()));
    await stage.log.trim(EVENTS_TOPIC, 0, 25);
    expect(await haltOf(stage.start())).toMatch(/offset 20 is next, but the log begins at 25: 5 records were removed/);
  });

  it("in the middle of a range in flight halts the partition", async () => {
    await using stage = await createStage(warehouse, { epoch: "trimmed-marker" });
    await stage.append(...events(20));
    await commitByHand(stage, { offset: 2, metadata: JSON.stringify({ epoch: "trimmed-marker", to: 9 }) });
    await stage.log.trim(EVENTS_TOPIC, 0, 5);
    expect(await haltOf(stage.start())).toMatch(
      /offset 2 is next, 9 was in flight, but the log begins at 5: 3 records/,
    );
  });
});

it("a halted partition that goes to another consumer leaves the first one ready", async () => {
  await using stage = await storedStage("let-go", 20);
  stage.log.wipe(EVENTS_TOPIC, true);
  const consumer = stage.start();
  await haltOf(consumer);
  await stage.log.revoke(0);
  expect(await haltedNow(consumer)).toBeUndefined();
  expect(await stage.metric(consumer, "millrace_partition_halted")).toBe(0);
});

it("a topic without an epoch waits for one, says what to run, and goes on by itself", async () => {
  await using stage = await createStage(warehouse, { epoch: "late" });
  await stage.append(eventRecord());
  let epoch: string | undefined;
  const consumer = stage.start({ log: (inner) => ({ ...inner, epoch: async () => epoch }) });
  await until(async () => (await haltedNow(consumer)) !== undefined, "the partition waits");
  expect(await haltedNow(consumer)).toMatch(/no epoch is recorded .*millrace migrate/);
  expect(await stage.metric(consumer, "millrace_partition_halted")).toBe(1);
  epoch = "late";
  await stage.drained();
  expect(await haltedNow(consumer)).toBeUndefined();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1 }));
});

it("records removed before they were stored halt the partition; given up, it goes on under its epoch", async () => {
  await using stage = await storedStage("accepted-loss", 20);
  await stage.append(...Array.from({ length: 10 }, () => eventRecord()));
  await stage.log.trim(EVENTS_TOPIC, 0, 25);
  const first = stage.start();
  expect(await haltOf(first)).toMatch(/offset 20 is next, .* begins at 25: 5 records .*--accept-lost/);
  await first[Symbol.asyncDispose]();

  const deps = { log: { ...stage.log, epoch: async () => stage.epoch }, warehouse, kind: STORED_EVENTS };
  const { audit } = await verifyTopic(deps, true);
  expect(audit.partitions).toMatchObject([{ missing: { count: 5, ranges: [{ from: 20, to: 24 }] } }]);
  expect(lostCount([audit])).toBe(5);
  await acceptLost(warehouse, audit, Date.now());

  const second = stage.start();
  await stage.drained();
  expect(await haltedNow(second)).toBeUndefined();
  const after = await verifyTopic(deps, false);
  expect(isSound(after)).toBe(true);
  expect(after.audit.partitions).toMatchObject([{ to: 30, rows: 25, lost: 5, notStored: { count: 0 } }]);
});
