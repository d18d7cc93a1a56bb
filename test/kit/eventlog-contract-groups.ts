// The part of the OpenLog contract about consumers: assignments, their loss, and commits.

import { expect, it } from "vitest";
import {
  type Assignment,
  AssignmentLostError,
  OffsetOutOfRangeError,
  type OpenLog,
  type ReadOptions,
} from "#lib/eventlog/log.ts";
import { assigned, consuming, untilLost } from "./consuming.ts";
import { appendToOne, keyed, readRange, tailing, WAIT_MS } from "./eventlog-reading.ts";

/** What a test of the contract works with. */
export interface ContractContext {
  log(): OpenLog;
  partitions(): number;
  freshTopic(): Promise<string>;
}

export function committing({ log, partitions, freshTopic }: ContractContext): void {
  it("a commit comes back with its metadata, to the assignment and to others", async () => {
    const topic = await freshTopic();
    await appendToOne(log(), topic, 5);
    await using consumer = consuming(log(), topic, "group");
    const assignment = await assigned(consumer, 0);
    expect(await assignment.committed()).toBeUndefined();
    await assignment.commit({ offset: 0, metadata: '{"to":3}' });
    await assignment.commit({ offset: 4, metadata: '{"to":"é"}' });
    expect(await assignment.committed()).toEqual({ offset: 4, metadata: '{"to":"é"}' });
    expect(await log().committed(topic, "group")).toEqual(new Map([[0, { offset: 4, metadata: '{"to":"é"}' }]]));
    expect(await log().committed(topic, "another group")).toEqual(new Map());
  });

  it("the next consumer of the group finds the last commit", async () => {
    const topic = await freshTopic();
    {
      await using first = consuming(log(), topic, "group");
      await (await assigned(first, 0)).commit({ offset: 0, metadata: "kept" });
    }
    await using second = consuming(log(), topic, "group");
    expect(await (await assigned(second, 0)).committed()).toEqual({ offset: 0, metadata: "kept" });
  });

  it("every partition is assigned, and read where it is asked to be", async () => {
    const topic = await freshTopic();
    await log().append(topic, keyed(200));
    await using consumer = consuming(log(), topic, "group");
    let seen = 0;
    for (let partition = 0; partition < partitions(); partition++) {
      const assignment = await assigned(consumer, partition);
      const { start, end } = await assignment.bounds();
      expect(start).toBe(0);
      seen += (await readRange((options) => assignment.read(options), 0, end)).length;
    }
    expect(seen).toBe(200);
  });
}

export function assignments({ log, freshTopic }: ContractContext): void {
  it("a second consumer of the group takes the assignment away, and the first can do nothing with it", async () => {
    const topic = await freshTopic();
    await appendToOne(log(), topic, 3);
    await using first = consuming(log(), topic, "group");
    const old = await assigned(first, 0);
    await using _second = consuming(log(), topic, "group");
    await untilLost(old);
    await expectLost(old);
  });

  it("an aborted consumer resolves, and its assignment is lost", async () => {
    const topic = await freshTopic();
    await appendToOne(log(), topic, 3);
    const consumer = consuming(log(), topic, "group");
    const old = await assigned(consumer, 0);
    await consumer[Symbol.asyncDispose]();
    expect(old.lost.aborted).toBe(true);
    await expectLost(old);
    expect(await log().committed(topic, "group")).toEqual(new Map());
  });

  it("a read that waits is refused when the assignment is lost", async () => {
    const topic = await freshTopic();
    const consumer = consuming(log(), topic, "group");
    const old = await assigned(consumer, 0);
    const waiting = old.read({ from: 0, maxRecords: 1, maxBytes: 1e6, maxWaitMs: WAIT_MS });
    const refused = expect(waiting).rejects.toBeInstanceOf(AssignmentLostError);
    await consumer[Symbol.asyncDispose]();
    await refused;
  });

  it("consume with a signal that is already aborted resolves without an assignment", async () => {
    const topic = await freshTopic();
    const onAssigned = () => Promise.reject(new Error("assigned after the abort"));
    await log().consume({ topic, group: "group", onAssigned, signal: AbortSignal.abort() });
  });

  it("consume ends with the error of a failing onAssigned", async () => {
    const topic = await freshTopic();
    const failure = new Error("the handler broke");
    const onAssigned = () => Promise.reject(failure);
    const consumed = log().consume({ topic, group: "group", onAssigned, signal: new AbortController().signal });
    await expect(consumed).rejects.toBe(failure);
  });

  it("an assignment reads exactly from where it is told, and is refused outside of the log", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 10);
    await log().trim(topic, partition, 2);
    await using consumer = consuming(log(), topic, "group");
    const assignment = await assigned(consumer, partition);
    const read = (options: ReadOptions) => assignment.read(options);
    expect((await readRange(read, 5, 5)).map(({ offset }) => offset)).toEqual([5, 6, 7, 8, 9]);
    expect((await readRange(read, 2, 2)).map(({ offset }) => offset)).toEqual([2, 3]);
    await expect(readRange(read, 1, 1)).rejects.toBeInstanceOf(OffsetOutOfRangeError);
    await expect(readRange(read, 11, 1)).rejects.toBeInstanceOf(OffsetOutOfRangeError);
  });

  it("tail disturbs neither the consumer nor its commits", async () => {
    const topic = await freshTopic();
    const { partition } = await appendToOne(log(), topic, 10);
    await using consumer = consuming(log(), topic, "group");
    const assignment = await assigned(consumer, partition);
    await assignment.commit({ offset: 6, metadata: "" });
    expect(await readRange(tailing(log(), topic, partition), 0, 10)).toHaveLength(10);
    expect(assignment.lost.aborted).toBe(false);
    expect(await assignment.committed()).toEqual({ offset: 6, metadata: "" });
    expect((await readRange((options) => assignment.read(options), 6, 4))[0]?.offset).toBe(6);
  });
}

async function expectLost(assignment: Assignment): Promise<void> {
  const calls = [
    assignment.commit({ offset: 1, metadata: "too late" }),
    assignment.read({ from: 0, maxRecords: 1, maxBytes: 1e6, maxWaitMs: 20 }),
    assignment.committed(),
    assignment.bounds(),
  ];
  for (const outcome of await Promise.allSettled(calls)) {
    expect(outcome.status === "rejected" && outcome.reason).toBeInstanceOf(AssignmentLostError);
  }
}
