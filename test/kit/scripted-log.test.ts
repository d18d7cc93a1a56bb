import { expect, it } from "vitest";
import { AssignmentLostError, OffsetOutOfRangeError } from "#lib/eventlog/log.ts";
import { assigned, consuming, untilLost } from "./consuming.ts";
import { describeEventLog } from "./eventlog-contract.ts";
import { keyed, record, text } from "./eventlog-reading.ts";
import { createScriptedLog, type ScriptedLogOptions } from "./scripted-log.ts";

/** Unreferenced: a read that was woken leaves its timer behind. */
const realTime = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms).unref());

for (const partitions of [1, 4]) {
  describeEventLog(`the scripted log of ${partitions} partitions`, async () => {
    const log = createScriptedLog({ partitions, wait: realTime });
    return { log, partitions, [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
  });
}

async function start(options: Partial<ScriptedLogOptions> = {}) {
  const log = createScriptedLog({ partitions: 2, ...options });
  await log.createTopics([{ topic: "t", partitions: 2 }]);
  return log;
}

const wanted = { from: 0, maxRecords: 10, maxBytes: 1e6, maxWaitMs: 1000 };

/** Whether the promise has settled after everything that can happen without the test has happened. */
async function settles(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  await new Promise<void>((resolve) => setImmediate(resolve));
  return settled;
}

it("several consumers share the partitions, and a rebalance moves them", async () => {
  const log = await start();
  await using one = consuming(log, "t", "g");
  await assigned(one, 1);
  await using two = consuming(log, "t", "g");
  const held = await Promise.race([assigned(two, 0), assigned(two, 1)]);
  const before = log.owners("t");
  expect(new Set(before.values())).toEqual(new Set([0, 1]));
  await log.rebalance();
  expect(held.lost.aborted).toBe(true);
  expect(log.owners("t").get(0)).toBe(before.get(1));
});

it("a rebalance waits for the handlers that still work", async () => {
  const log = await start({ partitions: 1 });
  const working = Promise.withResolvers<void>();
  const leaving = new AbortController();
  let handlers = 0;
  const onAssigned = () => (++handlers === 1 ? working.promise : Promise.resolve());
  const consumed = log.consume({ topic: "t", group: "g", onAssigned, signal: leaving.signal });
  await settles(consumed);
  const rebalanced = log.rebalance();
  expect(await settles(rebalanced)).toBe(false);
  expect(handlers).toBe(1);
  working.resolve();
  await rebalanced;
  leaving.abort();
  await consumed;
  expect(handlers).toBe(2);
});

it("a revoked partition has no owner until it is assigned again", async () => {
  const log = await start();
  await using consumer = consuming(log, "t", "g");
  const old = await assigned(consumer, 0);
  await log.revoke(0);
  expect(log.owners("t")).toEqual(new Map([[1, 0]]));
  await expect(old.commit({ offset: 1, metadata: "" })).rejects.toBeInstanceOf(AssignmentLostError);
  await log.assign(0, 0);
  expect((await assigned(consumer, 0)).lost.aborted).toBe(false);
});

it("a killed consumer hears nothing and changes nothing, and its partitions go on with another", async () => {
  const log = await start();
  const killed = consuming(log, "t", "g");
  const release = log.delayNext("commit");
  const dead = await assigned(killed, 0);
  const inFlight = dead.commit({ offset: 1, metadata: "in flight" });
  await log.killConsumer(0);
  release();
  expect(await settles(inFlight)).toBe(false);
  expect(await settles(dead.read(wanted))).toBe(false);
  expect(dead.lost.aborted).toBe(false);
  expect(await settles(killed.ended)).toBe(false);
  await using next = consuming(log, "t", "g");
  expect(await (await assigned(next, 0)).committed()).toBeUndefined();
  expect(log.commits).toEqual([expect.objectContaining({ consumer: 0, metadata: "in flight", accepted: false })]);
});

it("an expelled consumer's partitions are dealt while its old handler still runs, whose commit is refused", async () => {
  const log = await start({ partitions: 1 });
  await using consumer = consuming(log, "t", "g");
  const old = await assigned(consumer, 0);
  const release = log.delayNext("commit");
  const late = old.commit({ offset: 7, metadata: "late" });
  const refused = expect(late).rejects.toBeInstanceOf(AssignmentLostError);
  await log.expelConsumer(0);
  await untilLost(old);
  const renewed = await assigned(consumer, 0);
  await renewed.commit({ offset: 1, metadata: "" });
  release();
  await refused;
  await settles(late);
  expect(await renewed.committed()).toEqual({ offset: 1, metadata: "" });
  expect(log.commits.map(({ accepted }) => accepted)).toEqual([true, false]);
});

it.each([
  ["before", false, 0],
  ["after", true, 3],
] as const)("an append can fail %s it took effect", async (_, landed, stored) => {
  const log = await start();
  const failure = new Error("scripted");
  log.failNextAppend(failure, landed);
  await expect(log.append("t", keyed(3))).rejects.toBe(failure);
  expect(log.appends).toHaveLength(stored);
  expect(await log.append("t", keyed(3))).toHaveLength(3);
});

it.each([
  ["before", false, undefined],
  ["after", true, { offset: 1, metadata: "m" }],
] as const)("a commit can fail %s it took effect", async (_, landed, committed) => {
  const log = await start();
  await using consumer = consuming(log, "t", "g");
  const assignment = await assigned(consumer, 0);
  const failure = new Error("scripted");
  log.failNextCommit(failure, landed);
  await expect(assignment.commit({ offset: 1, metadata: "m" })).rejects.toBe(failure);
  expect(await assignment.committed()).toEqual(committed);
});

it("a read waits until the test ends its wait", async () => {
  const log = await start();
  const waiting = log.tail("t", 0, wanted);
  expect(await settles(waiting)).toBe(false);
  log.expireWaits();
  expect(await waiting).toEqual([]);
});

it("a wiped topic is empty, starts at offset 0 and refuses the offsets it had", async () => {
  const log = await start({ partitions: 1 });
  await using consumer = consuming(log, "t", "g");
  const assignment = await assigned(consumer, 0);
  await log.append("t", keyed(5));
  await assignment.commit({ offset: 5, metadata: "" });
  const waiting = expect(assignment.read({ ...wanted, from: 5 })).rejects.toBeInstanceOf(OffsetOutOfRangeError);
  await settles(Promise.resolve());
  log.wipe("t", true);
  await waiting;
  expect(await assignment.committed()).toEqual({ offset: 5, metadata: "" });
  log.wipe("t");
  expect(await assignment.committed()).toBeUndefined();
  expect(await log.append("t", [record("k", "new")])).toEqual([{ partition: 0, offset: 0 }]);
  expect((await assignment.read(wanted)).map(({ value }) => text(value))).toEqual(["new"]);
});

it("every call passes the hook before it takes effect", async () => {
  const gate = Promise.withResolvers<void>();
  const calls: string[] = [];
  const log = await start({
    async before(call, topic) {
      calls.push(`${call} ${topic}`);
      if (call === "append") await gate.promise;
    },
    now: () => 1234,
  });
  const appended = log.append("t", [record("k", "v")]);
  expect(await settles(appended)).toBe(false);
  expect(log.appends).toEqual([]);
  gate.resolve();
  await appended;
  expect(calls).toEqual(["createTopics t", "append t"]);
  expect(log.appends[0]?.appendTimeMs).toBe(1234);
});
