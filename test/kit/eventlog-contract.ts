// What every OpenLog adapter must do, whatever it is made of: lib/eventlog/log.ts as tests. The adapters run it against
// their real part; topic names are unique, so a broker may be shared. Nothing here sleeps, every wait has a condition.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { OffsetOutOfRangeError, type OpenLog } from "#lib/eventlog/log.ts";
import { assigned, consuming } from "./consuming.ts";
import { assignments, type ContractContext, committing } from "./eventlog-contract-groups.ts";
import {
  appendToOne,
  at,
  boundsOf,
  bytes,
  everything,
  hex,
  keyed,
  readRange,
  record,
  tailing,
  text,
  WAIT_MS,
} from "./eventlog-reading.ts";

export interface ContractSubject extends AsyncDisposable {
  log: OpenLog;
  /** What createTopics is asked for, and what a topic then has. */
  partitions: number;
}

/** Registers the suite. `make` is called once for the suite and once for the test of close. */
export function describeEventLog(name: string, make: () => Promise<ContractSubject>, options: { skip?: string } = {}) {
  const title = options.skip ? `${name} as an OpenLog (skipped: ${options.skip})` : `${name} as an OpenLog`;
  describe.skipIf(options.skip !== undefined)(title, () => {
    let subject: ContractSubject;
    beforeAll(async () => {
      subject = await make();
    });
    afterAll(() => subject?.[Symbol.asyncDispose]());
    const freshTopic = async () => {
      const topic = `contract-${randomUUID()}`;
      await subject.log.createTopics([{ topic, partitions: subject.partitions }]);
      // On a busy machine metadata name a leader before it has heard that it is one; callers try again.
      await vi.waitFor(() => subject.log.bounds(topic), { timeout: WAIT_MS });
      return topic;
    };
    const context: ContractContext = { log: () => subject.log, partitions: () => subject.partitions, freshTopic };
    appending(context);
    reading(context);
    trimming(context);
    committing(context);
    assignments(context);
    administering(context, make);
  });
}

function appending({ log, partitions, freshTopic }: ContractContext): void {
  it("append returns one position per record, consecutive within each partition", async () => {
    const topic = await freshTopic();
    const positions = [...(await log().append(topic, keyed(40))), ...(await log().append(topic, keyed(40)))];
    expect(positions).toHaveLength(80);
    for (let partition = 0; partition < partitions(); partition++) {
      const offsets = positions.filter((position) => position.partition === partition).map(({ offset }) => offset);
      expect(offsets).toEqual(offsets.map((_, index) => index));
    }
  });

  it("append of nothing resolves with nothing", async () => {
    const topic = await freshTopic();
    expect(await log().append(topic, [])).toEqual([]);
    expect((await log().bounds(topic)).map(({ end }) => end)).toEqual(Array(partitions()).fill(0));
  });

  it("records with equal keys keep their order, in one partition", async () => {
    const topic = await freshTopic();
    for (let round = 0; round < 10; round++) {
      await log().append(
        topic,
        Array.from({ length: 20 }, (_, i) => record(`key-${i % 5}`, `${i % 5}:${round * 20 + i}`)),
      );
    }
    const last = new Map<string, { partition: number; sequence: number }>();
    for (const { partition, stored } of await everything(log(), topic)) {
      const [key = "", sequence = ""] = text(stored.value).split(":");
      const before = last.get(key);
      if (before) expect(partition).toBe(before.partition);
      expect(Number(sequence)).toBeGreaterThan(before?.sequence ?? -1);
      last.set(key, { partition, sequence: Number(sequence) });
    }
    expect(last.size).toBe(5);
  });

  it("keys and values are returned byte for byte, traceparents as they were", async () => {
    const topic = await freshTopic();
    const key = Uint8Array.from({ length: 256 }, (_, i) => i);
    const value = Uint8Array.from({ length: 1024 }, (_, i) => 255 - (i % 256));
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const [position] = await log().append(topic, [{ key, value, traceparent }]);
    const [stored] = await readRange(tailing(log(), topic, position?.partition ?? -1), 0, 1);
    expect(hex(stored?.key)).toBe(hex(key));
    expect(hex(stored?.value)).toBe(hex(value));
    expect(stored?.traceparent).toBe(traceparent);
  });

  it("an empty value and an absent traceparent stay what they are", async () => {
    const topic = await freshTopic();
    const [position] = await log().append(topic, [{ key: bytes("k"), value: new Uint8Array(0) }]);
    const [stored] = await readRange(tailing(log(), topic, position?.partition ?? -1), 0, 1);
    expect(stored?.value.byteLength).toBe(0);
    expect(stored?.traceparent ?? "").toBe("");
  });

  it("append times are the log's own and never run backwards", async () => {
    const topic = await freshTopic();
    for (let round = 0; round < 3; round++) await log().append(topic, [record("same-key", `${round}`)]);
    const times = (await everything(log(), topic)).map(({ stored }) => stored.appendTimeMs);
    expect(times).toHaveLength(3);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    // A broker's clock may differ from ours, but not by an hour.
    for (const time of times) expect(Math.abs(time - Date.now())).toBeLessThan(3_600_000);
  });

  it("5,000 records from 20 concurrent callers: each acknowledged position holds exactly that record", async () => {
    const topic = await freshTopic();
    const acknowledged = new Map<string, string>();
    const caller = async (name: number) => {
      for (let call = 0; call < 10; call++) {
        const records = Array.from({ length: 25 }, (_, i) => record(`key-${i % 7}`, `${name}/${call}/${i}`));
        const positions = await log().append(topic, records);
        for (const [i, position] of positions.entries()) acknowledged.set(at(position), text(records[i]?.value));
      }
    };
    await Promise.all(Array.from({ length: 20 }, (_, name) => caller(name)));
    const found = await everything(log(), topic);
    expect(found).toHaveLength(5000);
    expect(acknowledged.size).toBe(5000);
    for (const { partition, stored } of found) {
      expect(text(stored.value)).toBe(acknowledged.get(at({ partition, offset: stored.offset })));
    }
  });
}

function reading({ log, partitions, freshTopic }: ContractContext): void {
  it("any range on the log can be read exactly, an earlier one also after a later one", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 100);
    const read = tailing(log(), topic, partition);
    for (const [from, count] of [
      [60, 40],
      [10, 25],
      [0, 100],
      [99, 1],
    ] as const) {
      const records = await readRange(read, from, count);
      expect(records.map(({ offset }) => offset)).toEqual(Array.from({ length: count }, (_, i) => from + i));
      expect(records.map(({ value }) => text(value))).toEqual(records.map(({ offset }) => `value-${offset}`));
    }
  });

  it("a read returns no more records than wanted", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 10);
    const records = await log().tail(topic, partition, { from: 2, maxRecords: 3, maxBytes: 1e6, maxWaitMs: WAIT_MS });
    expect(records.length).toBeGreaterThan(0);
    expect(records.length).toBeLessThanOrEqual(3);
    expect(records[0]?.offset).toBe(2);
  });

  it("a read returns no more bytes than wanted, but always one record", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 10, 1000);
    const read = (maxBytes: number) =>
      log().tail(topic, partition, { from: 0, maxRecords: 10, maxBytes, maxWaitMs: WAIT_MS });
    expect(await read(10)).toHaveLength(1);
    const few = await read(2500);
    expect(few.length).toBeGreaterThan(0);
    expect(few.reduce((sum, { key, value }) => sum + key.byteLength + value.byteLength, 0)).toBeLessThanOrEqual(2500);
  });

  it("a read at the end waits, and an append wakes it", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 1);
    const started = performance.now();
    const waiting = log().tail(topic, partition, { from: 1, maxRecords: 10, maxBytes: 1e6, maxWaitMs: WAIT_MS });
    // A round trip, so that the read is under way before there is anything to read.
    await log().bounds(topic);
    await log().append(topic, [record("one", "late")]);
    expect((await waiting).map(({ value }) => text(value))).toEqual(["late"]);
    expect(performance.now() - started).toBeLessThan(WAIT_MS / 2);
  });

  it("a read at the end returns nothing when its wait is over", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 1);
    expect(await log().tail(topic, partition, { from: 1, maxRecords: 10, maxBytes: 1e6, maxWaitMs: 20 })).toEqual([]);
  });

  it("a read beyond the end is refused with the topic's name", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 3);
    const reading = log().tail(topic, partition, { from: 4, maxRecords: 1, maxBytes: 1e6, maxWaitMs: 20 });
    const error = await reading.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(OffsetOutOfRangeError);
    expect((error as Error).message).toContain(topic);
  });

  it("a new topic is empty in every partition", async () => {
    const bounds = await log().bounds(await freshTopic());
    const empty = Array.from({ length: partitions() }, (_, partition) => ({ partition, start: 0, end: 0 }));
    expect(bounds.toSorted((a, b) => a.partition - b.partition)).toEqual(empty);
  });
}

function trimming({ log, freshTopic }: ContractContext): void {
  it("a trim moves the start, refuses what is gone and leaves the rest", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 20);
    await log().trim(topic, partition, 8);
    expect(await boundsOf(log(), topic, partition)).toEqual({ partition, start: 8, end: 20 });
    const read = tailing(log(), topic, partition);
    await expect(readRange(read, 7, 1)).rejects.toBeInstanceOf(OffsetOutOfRangeError);
    expect(await readRange(read, 8, 12)).toHaveLength(12);
  });

  it("offsets go on after a trim of everything", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 5);
    await log().trim(topic, partition, 5);
    expect(await boundsOf(log(), topic, partition)).toEqual({ partition, start: 5, end: 5 });
    expect(await log().append(topic, [record("one", "next")])).toEqual([{ partition, offset: 5 }]);
    expect(await readRange(tailing(log(), topic, partition), 5, 1)).toHaveLength(1);
  });
}

function administering({ log, partitions, freshTopic }: ContractContext, make: () => Promise<ContractSubject>): void {
  it("createTopics names the topics it made and leaves existing ones alone", async () => {
    const existing = await freshTopic();
    await log().append(existing, keyed(3));
    const topic = `contract-${randomUUID()}`;
    const specs = [existing, topic].map((name) => ({ topic: name, partitions: partitions() }));
    expect(await log().createTopics(specs)).toEqual([topic]);
    expect(await log().createTopics(specs)).toEqual([]);
    expect(await everything(log(), existing)).toHaveLength(3);
  });

  it("topics created by several at once are made once", async () => {
    const topic = `contract-${randomUUID()}`;
    const attempts = Array.from({ length: 4 }, () => log().createTopics([{ topic, partitions: partitions() }]));
    expect((await Promise.all(attempts)).flat()).toEqual([topic]);
  });

  it("the epoch stays the same", async () => {
    expect(await log().epoch()).toBe(await log().epoch());
  });

  it("a topic keeps its id, which its readers are told too; another topic has another", async () => {
    const topic = await freshTopic();
    const id = await log().topicId(topic);
    await using consumer = consuming(log(), topic, "group");
    expect(await (await assigned(consumer, 0)).topicId()).toBe(id);
    expect(await log().topicId(topic)).toBe(id);
    if (id !== undefined) expect(await log().topicId(await freshTopic())).not.toBe(id);
  });

  it("check resolves while appends can succeed", async () => {
    await log().check();
  });

  it("close can be called twice, and ends consumers", async () => {
    await using own = await make();
    const topic = `contract-${randomUUID()}`;
    await own.log.createTopics([{ topic, partitions: own.partitions }]);
    const consumer = consuming(own.log, topic, "group");
    const assignment = await assigned(consumer, 0);
    await Promise.all([own.log[Symbol.asyncDispose](), own.log[Symbol.asyncDispose]()]);
    await own.log[Symbol.asyncDispose]();
    expect(assignment.lost.aborted).toBe(true);
    await consumer.ended;
  });
}
