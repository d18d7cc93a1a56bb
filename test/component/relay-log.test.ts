// Points and a log that is not always there: kept, retried under the same ids, bounded, counted.
import { describe, expect, it, vi } from "vitest";
import { LogUnavailableError, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { decodePoint } from "#lib/events/point-record.ts";
import { atMost } from "../kit/patience.ts";
import { startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog, type ScriptedLog } from "../kit/scripted-log.ts";

const APPENDS = "millrace_relay_appends_total";
const DROPPED = "millrace_relay_points_dropped_total";
const away = () => new LogUnavailableError("away");

async function connected(relay: TestRelay) {
  const peer = await relay.connect();
  peer.send("id host\n");
  await peer.receives("ok\nbeat 30\n");
  return peer;
}

const sequences = (log: ScriptedLog) => log.appends.map(({ value }) => Number(decodePoint(value).sequence));
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);
const messages = (relay: TestRelay) => relay.lines.map((line) => JSON.parse(line).message as string);

it("points of many lines and relays share few appends", async () => {
  const log = createScriptedLog({ partitions: 1 });
  await using relay = await startTestRelay({}, log);
  const peers = await Promise.all(Array.from({ length: 50 }, () => connected(relay)));
  for (const peer of peers) peer.send("got a-a:1\ngot b-b:1\n");
  await relay.points(100);
  expect(await relay.metric(APPENDS)).toBeLessThanOrEqual(5);
});

describe("a log that is away", () => {
  it("gets every point once it is back, each once, in order, under the ids of the first try", async () => {
    const log = createScriptedLog({ partitions: 1 });
    await using relay = await startTestRelay({}, log);
    await using peer = await connected(relay);
    for (let i = 0; i < 5; i++) log.failNextAppend(away());
    for (let i = 0; i < 10; i++) {
      peer.send("got a-a:1,b-b:2\n");
      await relay.metricReaches("millrace_relay_points_received_total", 2 * (i + 1));
    }
    await relay.metricReaches(APPENDS, 5, { result: "failed" });
    await relay.points(20);
    expect(sequences(log)).toEqual(upTo(20));
    expect(await relay.metric("millrace_relay_buffer_bytes")).toBe(0);
    expect(messages(relay).filter((line) => line.includes("event log"))).toEqual([
      "the event log does not take points; they are kept and tried again",
      "the event log takes points again",
    ]);
  });

  it("that stored what it reported as failed gets it again under the same ids", async () => {
    const log = createScriptedLog({ partitions: 1 });
    await using relay = await startTestRelay({}, log);
    await using peer = await connected(relay);
    log.failNextAppend(away(), true);
    peer.send("got a-a:1,b-b:2\n");
    await relay.points(4);
    const ids = log.appends.map(({ value }) => {
      const { bootId, sequence } = decodePoint(value);
      return `${Buffer.from(bootId).toString("hex")}:${sequence}`;
    });
    expect(ids.slice(2)).toEqual(ids.slice(0, 2));
    expect(new Set(ids).size).toBe(2);
  });

  it("costs the oldest points over the bound, and they are counted and logged once", async () => {
    const log = createScriptedLog({ partitions: 1 });
    await using relay = await startTestRelay({ relayBufferBytes: 65_536 }, log);
    await using peer = await connected(relay);
    const release = log.delayNext("append");
    log.failNextAppend(away());
    for (let i = 0; i < 20; i++) peer.send(`got ${Array.from({ length: 50 }, () => "a-a:1").join()}\n`);
    await relay.metricReaches("millrace_relay_points_received_total", 1_000);
    expect(await relay.metric("millrace_relay_buffer_bytes")).toBeLessThanOrEqual(65_536);
    release();
    const dropped = () => relay.metric(DROPPED, { reason: "buffer_full" });
    await vi.waitFor(async () => expect(log.appends.length + (await dropped())).toBe(1_000), { timeout: 10_000 });
    expect(log.appends.length).toBeGreaterThan(100);
    expect(log.appends.length).toBeLessThan(200);
    expect(sequences(log)).toEqual(upTo(1_000).slice(await dropped()));
    expect(messages(relay).filter((line) => line.startsWith("points dropped"))).toHaveLength(1);
  });

  it("in part costs nothing: what failed comes behind the others", async () => {
    const log = createScriptedLog({ partitions: 1 });
    let begun = 0;
    const counting: typeof log = {
      ...log,
      append: (...args) => {
        begun++;
        return log.append(...args);
      },
    };
    await using relay = await startTestRelay({}, counting);
    await using peer = await connected(relay);
    const release = log.delayNext("append");
    log.failNextAppend(new PartialAppendError("in part", [{ partition: 0, offset: 0 }, away()], away()));
    peer.send("got a-a:1,b-b:2\n");
    await relay.metricReaches("millrace_relay_points_received_total", 2);
    await vi.waitUntil(() => begun > 0, { timeout: 5_000 });
    peer.send("got c-c:3\n");
    await relay.metricReaches("millrace_relay_points_received_total", 3);
    release();
    await relay.points(2);
    expect(sequences(log)).toEqual([2, 1]);
  });
});

it("a topic that takes small appends only gets the points in parts, and a point it never takes is dropped", async () => {
  const log = createScriptedLog({ partitions: 1 });
  const small: typeof log = {
    ...log,
    append(topic, records, signal) {
      const isLarge = records.length > 10 || records.some(({ value }) => decodePoint(value).metric === "large");
      return isLarge ? Promise.reject(new RecordTooLargeError("too large")) : log.append(topic, records, signal);
    },
  };
  await using relay = await startTestRelay({}, small);
  await using peer = await connected(relay);
  peer.send(`got ${Array.from({ length: 40 }, (_, i) => (i === 7 ? "a-large:1" : "a-a:1")).join()}\n`);
  await relay.points(39);
  expect(sequences(log)).toEqual(upTo(40).filter((i) => i !== 7));
  expect(await relay.metric(DROPPED, { reason: "too_large" })).toBe(1);
});

it("one point that the topic never takes divides its own group only: the groups after it are whole", async () => {
  const log = createScriptedLog({ partitions: 1 });
  const groups: number[] = [];
  const small: typeof log = {
    ...log,
    append(topic, records, signal) {
      if (records.some(({ value }) => decodePoint(value).metric === "large"))
        return Promise.reject(new RecordTooLargeError("too large"));
      groups.push(records.length);
      return log.append(topic, records, signal);
    },
  };
  await using relay = await startTestRelay({}, small);
  await using peer = await connected(relay);
  peer.send(`got ${Array.from({ length: 1_000 }, (_, i) => (i === 500 ? "a-large:1" : "a-a:1")).join()}\n`);
  await relay.points(999);
  const divided = groups.splice(0).length;
  expect(divided).toBeLessThan(15);
  for (let i = 0; i < 6; i++) peer.send(`got ${Array.from({ length: 500 }, () => "a-a:1").join()}\n`);
  await relay.points(3_999);
  expect(groups.length).toBeLessThanOrEqual(7);
});

describe("stopping", () => {
  it("brings what is held to the log first, also one that is away for a moment", async () => {
    const log = createScriptedLog({ partitions: 1 });
    await using relay = await startTestRelay({}, log);
    await using peer = await connected(relay);
    for (let i = 0; i < 3; i++) log.failNextAppend(away());
    peer.send("got a-a:1\n");
    await relay.metricReaches("millrace_relay_points_received_total", 1);
    await relay.stop();
    await peer.closes();
    expect(log.appends).toHaveLength(1);
  });

  it("gives up in time on a log that stays away, and says what is lost", async () => {
    const log = createScriptedLog({
      partitions: 1,
      before: (call) => (call === "append" ? Promise.reject(away()) : Promise.resolve()),
    });
    await using relay = await startTestRelay({ stopTimeout: 200 }, log);
    await using peer = await connected(relay);
    peer.send("got a-a:1,b-b:2\n");
    await relay.metricReaches("millrace_relay_points_received_total", 2);
    const begun = performance.now();
    await relay.stop();
    expect(performance.now() - begun).toBeLessThan(atMost(3_000));
    expect(await relay.metric(DROPPED, { reason: "stopped" })).toBe(2);
    expect(relay.lines.join()).toContain('"points":2,"reason":"stopped"');
  });
});
