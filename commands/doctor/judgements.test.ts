// What is made of what the parts say, where the real part cannot be brought into every state here.
import { describe, expect, it } from "vitest";
import type { TopicState } from "#lib/eventlog/kafka/inspection.ts";
import { judgeDisks, judgeInsertSettings } from "./clickhouse.ts";
import { judgeClock } from "./clocks.ts";
import { judgeMacros, judgeReplicas, judgeVersions, type NodeMacros, nodesOf, type ReplicaState } from "./cluster.ts";
import { judgeConsuming, type Lag } from "./position.ts";
import { judgeRetention } from "./retention.ts";
import { judgeTopic, judgeWriteCaching } from "./topics.ts";

const HOUR_MS = 3_600_000;
const NOW = Date.parse("2026-11-21T12:00:00Z");

describe("settings of an insert", () => {
  const pinned = { name: "insert_deduplicate", value: "1", readonly: 0 };
  it.each([
    ["as they are needed", [pinned, { name: "async_insert", value: "0", readonly: 1 }], "ok"],
    ["others that may be changed", [pinned, { name: "deduplicate_insert", value: "disable", readonly: 0 }], "ok"],
    ["async_insert that may not", [{ name: "async_insert", value: "1", readonly: 1 }], "fail"],
    ["no deduplication", [pinned, { name: "deduplicate_insert", value: "disable", readonly: 1 }], "fail"],
  ])("%s", (_, rows, status) => {
    expect(judgeInsertSettings(rows)).toMatchObject({ status });
  });
});

describe("a topic", () => {
  const good: Record<string, string> = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "min.insync.replicas": "2",
    "retention.ms": "604800000",
    "max.message.bytes": "1048588",
  };
  function topic(settings: Record<string, string> = {}, partition: Partial<TopicState["partitions"][0]> = {}) {
    const partitions = [{ partition: 0, leader: 1, replicas: 3, inSync: 3, ...partition }];
    return { topic: "t", partitions, settings: new Map(Object.entries({ ...good, ...settings })) };
  }

  it("as migrate makes it is good", () => {
    expect(judgeTopic(topic(), 3)).toMatchObject({ status: "ok", what: "1 partitions, 3 replicas, kept for 168.0 h" });
  });

  it.each([
    ["fail", "compact", { "cleanup.policy": "compact,delete" }, {}],
    ["fail", "LogAppendTime", { "message.timestamp.type": "CreateTime" }, {}],
    ["fail", "max.message.bytes is 1000", { "max.message.bytes": "1000" }, {}],
    ["fail", "has no leader", {}, { leader: -1 }],
    ["fail", "events are refused", {}, { inSync: 1 }],
    ["warn", "2 of 3 replicas in sync", {}, { inSync: 2 }],
    ["warn", "min.insync.replicas is 1", { "min.insync.replicas": "1" }, {}],
    ["warn", "one replica", { "min.insync.replicas": "1" }, { replicas: 1, inSync: 1 }],
  ])("gets %s for: %s", (status, what, settings, partition) => {
    const finding = judgeTopic(topic(settings, partition), 3);
    expect(finding).toMatchObject({ status, what: expect.stringContaining(what), fix: expect.any(String) });
  });

  it("that is missing is one for migrate", () => {
    expect(judgeTopic(undefined, 3)).toMatchObject({ status: "fail", fix: "run `millrace migrate`" });
  });

  it("of Redpanda must not be write-cached; of brokers that do not say so nothing is claimed", () => {
    expect(judgeWriteCaching([topic({ "write.caching": "false" })]).status).toBe("ok");
    expect(judgeWriteCaching([topic({ "write.caching": "false" }), topic({ "write.caching": "true" })])).toMatchObject({
      status: "fail",
      fix: expect.stringContaining("write.caching=false"),
    });
    expect(judgeWriteCaching([topic()])).toMatchObject({
      status: "skip",
      what: expect.stringContaining("not reported"),
    });
  });
});

function lagOf(fields: Partial<Lag> = {}): Lag {
  const partitions = [{ partition: 0, start: 0, end: 10 }];
  return { partitions, committed: new Map([[0, 10]]), records: 0, oldestMs: undefined, ...fields };
}

describe("retention", () => {
  const kept = (ms: number, bytes = -1) =>
    new Map([
      ["retention.ms", String(ms)],
      ["retention.bytes", String(bytes)],
    ]);

  it.each([
    ["ok", 168 * HOUR_MS, 1 * HOUR_MS],
    ["warn", 168 * HOUR_MS, 100 * HOUR_MS],
    ["fail", 168 * HOUR_MS, 150 * HOUR_MS],
    ["warn", 2 * HOUR_MS, 0],
    ["ok", -1, 1000 * HOUR_MS],
  ])("gets %s when records are kept %d ms and the oldest waits %d ms", (status, keptMs, ageMs) => {
    expect(judgeRetention(lagOf({ oldestMs: NOW - ageMs }), kept(keptMs), NOW).status).toBe(status);
  });

  it("names records that were removed before they were stored", () => {
    const lag = lagOf({ partitions: [{ partition: 3, start: 20, end: 30 }], committed: new Map([[3, 12]]) });
    expect(judgeRetention(lag, kept(-1), NOW)).toMatchObject({
      status: "fail",
      what: "partition 3: offset 12 is next and the log begins at 20: records were removed before they were stored",
    });
  });

  it("by size depends on the load, which is said", () => {
    expect(judgeRetention(lagOf(), kept(-1, 1_000_000), NOW)).toMatchObject({ status: "warn" });
    expect(judgeRetention(lagOf(), undefined, NOW)).toMatchObject({ status: "ok" });
  });
});

describe("a group", () => {
  const members = (fields: object = {}) => {
    return { group: "g", state: "Stable", members: 2, assigned: new Set([0]), ...fields };
  };

  it("that has members and nothing to do is good", () => {
    expect(judgeConsuming(lagOf(), members(), NOW)).toEqual({
      status: "ok",
      what: "2 members, everything on the log is stored",
    });
  });

  it("is told by what is missing: members, an owner of a partition, time", () => {
    const waiting = lagOf({ records: 5, oldestMs: NOW - 90_000 });
    expect(judgeConsuming(waiting, members({ members: 0, state: "Empty" }), NOW)).toMatchObject({
      status: "fail",
      what: "no consumer is in the group; 5 not stored yet (the oldest since 90 s)",
      fix: expect.stringContaining("start `millrace consumer`"),
    });
    expect(judgeConsuming(lagOf(), members({ assigned: new Set() }), NOW)).toMatchObject({
      status: "fail",
      what: "no member has partition 0; everything on the log is stored",
    });
    expect(judgeConsuming(lagOf(), members({ state: "PreparingRebalance" }), NOW).status).toBe("warn");
    expect(judgeConsuming(waiting, members(), NOW).status).toBe("warn");
    expect(judgeConsuming(waiting, undefined, NOW).status).toBe("warn");
    expect(judgeConsuming(lagOf({ records: 5 }), members(), NOW)).toMatchObject({
      status: "warn",
      what: "2 members, 5 not stored yet (since when is unknown)",
    });
  });
});

it.each([
  [0, 10, "ok"],
  [6_000, 2_000, "ok"],
  [-8_000, 1_000, "warn"],
  [700_000, 1_000, "fail"],
])("a clock that is %d ms off, give or take %d, gets %s", (skew, uncertain, status) => {
  expect(judgeClock("ClickHouse", skew, uncertain).status).toBe(status);
});

it("tells which way a clock is wrong", () => {
  expect(judgeClock("the log", -60_000, 0).what).toBe("the clock of the log is 60 s behind this machine's");
  expect(judgeClock("the log", 60_000, 0).what).toBe("the clock of the log is 60 s ahead of this machine's");
});

it.each([
  [0.5, 1000, "fail"],
  [15, 1000, "warn"],
  [15, 50, "ok"],
  [30, 1000, "ok"],
])("a disk with %d GiB free of %d gets %s", (free, total, status) => {
  const roomy = { name: "b", freeBytes: 500 * 1024 ** 3, totalBytes: 1000 * 1024 ** 3 };
  const disk = { name: "a", freeBytes: free * 1024 ** 3, totalBytes: total * 1024 ** 3 };
  expect(judgeDisks([roomy, disk])).toMatchObject({ status, what: expect.stringContaining("on a") });
});

describe("a cluster's node", () => {
  const nodes = nodesOf([["http://a1", "http://a2"], ["http://b1"]]);
  const macros = (...names: [shard: string | undefined, replica: string][]): NodeMacros[] =>
    nodes.map((node, at) => {
      const [shard, replica] = names[at] as [string | undefined, string];
      return { ...node, macros: { ...(shard === undefined ? {} : { shard }), replica } };
    });

  it("is called by its shard, and by its replica where there are several", () => {
    expect(nodes.map(({ label }) => label)).toEqual(["shard 1, replica 1", "shard 1, replica 2", "shard 2"]);
  });

  it("has macros of its own, by which its tables are found in Keeper", () => {
    expect(judgeMacros(macros(["1", "a"], ["1", "b"], ["2", "a"])).status).toBe("ok");
  });

  it.each([
    [
      "shard 1, replica 2 has no macro {shard}",
      [
        ["1", "a"],
        [undefined, "b"],
        ["2", "a"],
      ],
    ],
    [
      "shard 1, replica 1 and shard 1, replica 2 have different macros {shard}, 1 and 3",
      [
        ["1", "a"],
        ["3", "b"],
        ["2", "a"],
      ],
    ],
    [
      "shard 1, replica 1 and shard 1, replica 2 both have a as macro {replica}",
      [
        ["1", "a"],
        ["1", "a"],
        ["2", "a"],
      ],
    ],
    [
      "shard 1, replica 1 and shard 2 both have 1 as macro {shard}",
      [
        ["1", "a"],
        ["1", "b"],
        ["1", "c"],
      ],
    ],
  ] as const)("fails: %s", (what, names) => {
    expect(judgeMacros(macros(...(names as never as [string, string][])))).toMatchObject({ status: "fail", what });
  });

  it.each<[status: string, what: string, state: Partial<ReplicaState>]>([
    ["ok", "1 tables", {}],
    ["fail", "no session with Keeper (lost)", { readonly: true, fault: "lost" }],
    ["fail", "inserts wait for the majority", { active: 1 }],
    ["warn", "2 of 3 replicas", { active: 2 }],
    ["warn", "2000 entries queued", { queued: 2000 }],
    ["warn", "90 s behind", { delay: 90 }],
  ])("gets %s for replicas: %s", (status, what, state) => {
    const good = { table: "m.t", readonly: false, queued: 0, delay: 0, replicas: 3, active: 3, fault: "" };
    expect(judgeReplicas([{ ...good, ...state }])).toMatchObject({ status, what: expect.stringContaining(what) });
  });

  it("is named when its version is not that of the first", () => {
    const versions = ["26.7", "26.7", "25.8"];
    const finding = judgeVersions(nodes.map(({ label }, at) => ({ label, version: versions[at] as string })));
    expect(finding).toMatchObject({ status: "warn", what: "shard 1, replica 1 has 26.7, shard 2 has 25.8" });
  });
});
