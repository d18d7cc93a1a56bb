// got lines to points on the topic (section 3.4 of the contract).
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Peer, startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

let relay: TestRelay;
let peer: Peer;
beforeEach(async () => {
  relay = await startTestRelay({}, createScriptedLog({ partitions: 1 }));
  peer = await relay.connect();
  peer.send("id host-1\n");
  await peer.receives("ok\nbeat 30\n");
});
afterEach(async () => {
  await peer[Symbol.asyncDispose]();
  await relay[Symbol.asyncDispose]();
});

const REJECTED = "millrace_relay_points_rejected_total";

/** Sends items behind a sentinel, so that nothing of them can be late when the sentinel is there. */
async function send(items: string, encoding: BufferEncoding = "utf8") {
  peer.send(Buffer.from(`got ${items}\ngot end-end:0\n`, encoding));
}

describe("a point", () => {
  it("has value name, number, host, its collector's tags, arrival, collector and a point id in sequence", async () => {
    const before = Date.now() * 1000;
    peer.send("add net:dc:eu,plain,url:http://x:80,\ngot net-rx:1.2346,net-tx:-7\ngot ram-ram:25.0000\n");
    const points = await relay.points(3);
    expect(
      points.map(({ metric, value, collector, relayId, sequence, tags }) => [
        metric,
        value,
        collector,
        relayId,
        sequence,
        tags,
      ]),
    ).toEqual([
      ["rx", 1.2346, "net", "host-1", 0n, { host: "host-1", dc: "eu", url: "http://x:80" }],
      ["tx", -7, "net", "host-1", 1n, { host: "host-1", dc: "eu", url: "http://x:80" }],
      ["ram", 25, "ram", "host-1", 2n, { host: "host-1" }],
    ]);
    expect(new Set(points.map(({ bootId }) => Buffer.from(bootId).toString("hex"))).size).toBe(1);
    for (const { timeUs, receivedUs } of points) {
      expect(receivedUs).toBe(timeUs);
      expect(Number(timeUs)).toBeGreaterThanOrEqual(before);
      expect(Number(timeUs)).toBeLessThanOrEqual(Date.now() * 1000);
    }
  });

  it.each([
    ["a tag host:x replaces the id", "host:x", { host: "x" }],
    ["the last of two tags of a key wins", "k:1,k:2", { host: "host-1", k: "2" }],
    ["tags without a colon, or without a key, are not stored", "metrics,,:v", { host: "host-1" }],
    ["an empty value is as good as no tag", "k:,host:", {}],
    [
      "quotes and SQL are text",
      `a:'; DROP TABLE points; --,b:"x"\\`,
      { host: "host-1", a: "'; DROP TABLE points; --", b: '"x"\\' },
    ],
    ["__proto__ is a key like any other", "__proto__:x", JSON.parse('{"host":"host-1","__proto__":"x"}')],
  ])("tags: %s", async (_claim, tags, expected) => {
    peer.send(`add c:${tags}\ngot c-v:1\n`);
    const [point] = await relay.points(1);
    expect(JSON.stringify(Object.entries(point?.tags ?? {}).sort())).toBe(
      JSON.stringify(Object.entries(expected).sort()),
    );
  });

  it("is accepted from a collector that was never added, and keeps the old tags no longer after an add", async () => {
    peer.send("got x-v:1\nadd x:k:1\ngot x-v:2\nadd x:\ngot x-v:3\nadd x:k:4\nremove x\ngot x-v:4\n");
    const points = await relay.points(4);
    expect(points.map(({ tags }) => tags.k)).toEqual([undefined, "1", undefined, undefined]);
  });

  it("has no host where the id is empty, and stays under its own name in another connection of the id", async () => {
    await using nameless = await relay.connect();
    nameless.send("id \ngot a-a:1\n");
    await relay.points(1);
    await using twin = await relay.connect();
    twin.send("id host-1\nadd a:from:twin\ngot a-a:2\n");
    await relay.points(2);
    peer.send("got a-a:3\n");
    expect((await relay.points(3)).map(({ tags }) => tags)).toEqual([
      {},
      { host: "host-1", from: "twin" },
      { host: "host-1" },
    ]);
  });
});

describe("junk", () => {
  it.each([
    ["no colon", "cpu-cpu", "malformed"],
    ["two colons", "cpu-cpu:1:2", "malformed"],
    ["no dash", "cpu:1", "malformed"],
    ["two dashes", "cpu-a-b:1", "malformed"],
    ["the dash right of the colon", "cpu:-1", "malformed"],
    ["no value name", "cpu-:1", "malformed"],
    ["nothing", "", "malformed"],
    ["a name beyond the limit", `cpu-${"n".repeat(201)}:1`, "name_too_long"],
    ["no number", "cpu-cpu:", "not_a_number"],
    ["a word", "cpu-cpu:high", "not_a_number"],
    ["a number with a unit", "cpu-cpu:1kB", "not_a_number"],
    ["blanks", "cpu-cpu: 1", "not_a_number"],
    ["a CR", "cpu-cpu:1\r", "not_a_number"],
    ["a line end of Unicode behind the number", "cpu-cpu:1\u0085", "not_a_number"],
    ["a line separator in a name", "cpu-c\u2028pu:1", "malformed"],
    ["a NUL in a collector", "c\0pu-cpu:1", "malformed"],
    ["a name that is not UTF-8", "cpu-c\xffpu:1", "not_utf8"],
    ["a collector that is not UTF-8", "\xc3-cpu:1", "not_utf8"],
    ["a number that is not UTF-8", "cpu-cpu:1\xff", "not_utf8"],
    ["hexadecimal", "cpu-cpu:0x10", "not_a_number"],
    ["an underscore", "cpu-cpu:1_000", "not_a_number"],
    ["two points", "cpu-cpu:1.2.3", "not_a_number"],
    ["a point alone", "cpu-cpu:.", "not_a_number"],
    ["NaN", "cpu-cpu:NaN", "not_finite"],
    ["nan", "cpu-cpu:nan", "not_finite"],
    ["Inf", "cpu-cpu:+Inf", "not_finite"],
    ["-Infinity", "cpu-cpu:-Infinity", "not_finite"],
    ["1e999", "cpu-cpu:1e999", "not_finite"],
    ["-1e400", "cpu-cpu:-1e400", "not_finite"],
  ])("%s is counted and costs only itself", async (_claim, item, reason) => {
    await send(`a-a:1,${item},b-b:2`, reason === "not_utf8" ? "latin1" : "utf8");
    expect((await relay.points(3)).map(({ metric, value }) => [metric, value])).toEqual([
      ["a", 1],
      ["b", 2],
      ["end", 0],
    ]);
    expect(await relay.metric(REJECTED, { reason })).toBe(1);
    expect(await relay.metric(REJECTED)).toBe(1);
  });

  it("in a line of its own is counted too", async () => {
    peer.send("got \ngot ,,\ngot end-end:0\n");
    await relay.points(1);
    expect(await relay.metric(REJECTED, { reason: "malformed" })).toBe(4);
  });
});

it.each([
  ["5", 5],
  ["+5.", 5],
  [".5", 0.5],
  ["-0.0001", -0.0001],
  ["1E3", 1000],
  ["1e-400", 0],
  ["1.7976931348623157e308", Number.MAX_VALUE],
])("%s is a number", async (text, value) => {
  await send(`a-a:${text}`);
  expect((await relay.points(2))[0]?.value).toBe(value);
});

describe("a decimal comma", () => {
  it.each([
    ["c-load:1,5", 2],
    ["c-load:12,34", 2],
    ["c-load:-1,5e3", 2],
    ["c-load:1.234,56", 2],
    ["c-load:1,234,567.8", 3],
    ["c-load:1,5 %", 2],
    ["c-load:1, 5", 2],
  ])("costs its own number, which is counted, and no other: %s", async (items, count) => {
    await send(`a-a:1,${items},b-b:2`);
    expect((await relay.points(3)).map(({ metric, value }) => [metric, value])).toEqual([
      ["a", 1],
      ["b", 2],
      ["end", 0],
    ]);
    expect(await relay.metric(REJECTED, { reason: "decimal_comma" })).toBe(count);
  });

  it("is one also at the end of what a line may hold", async () => {
    await send(`${"a-a:1,".repeat(1_999)}c-load:1,5`);
    const points = await relay.points(2_000);
    expect(points.filter(({ metric }) => metric === "load")).toEqual([]);
  });
});

describe.each([
  ["CR LF", "\r\n"],
  ["CR", "\r"],
  ["blanks and LF", " \t\n"],
  ["blanks and CR LF", "  \r\n"],
])("lines that end with %s", (_name, end) => {
  it("give the same point as lines that end with LF", async () => {
    await using other = await relay.connect();
    other.send(["id web 1", "add c:dc:eu", "got c-load:1.5", ""].join(end));
    const [point] = await relay.points(1);
    expect([point?.relayId, point?.collector, point?.metric, point?.value, point?.tags]).toEqual([
      ...["web 1", "c", "load", 1.5],
      { host: "web 1", dc: "eu" },
    ]);
  });
});

it("tags that are not text are left out and counted, and a collector with an invalid name is refused", async () => {
  peer.send(Buffer.from("add c:a:1,b:\xff2,d:\x853,e:4\x0b\nadd \xff:\ngot c-v:1\n", "latin1"));
  const [point] = await relay.points(1);
  expect(point?.tags).toEqual({ host: "host-1", a: "1" });
  expect(await relay.metric("millrace_relay_tags_left_out_total")).toBe(3);
  expect(await relay.metric("millrace_relay_collectors_refused_total")).toBe(1);
});

describe("limits", () => {
  it("tags over the limits of number and length are left out and counted; the others are stored", async () => {
    const many = Array.from({ length: 40 }, (_, i) => `k${i}:${i}`).join();
    peer.send(`add many:${many}\nadd long:a:1,b:${"x".repeat(300)},c:3\ngot many-m:1,long-l:1\n`);
    const [first, second] = await relay.points(2);
    expect(Object.keys(first?.tags ?? {})).toHaveLength(33);
    expect(second?.tags).toEqual({ host: "host-1", a: "1", c: "3" });
    expect(await relay.metric("millrace_relay_tags_left_out_total")).toBe(9);
  });

  it("a connection has at most a thousand collectors and 64 KiB of them", async () => {
    const names = Array.from({ length: 1_010 }, (_, i) => `add n${i}:\n`).join("");
    peer.send(names);
    await peer.receives("ok\n".repeat(1_000));
    expect(await relay.metric("millrace_relay_collectors_refused_total")).toBe(10);
    await using other = await relay.connect();
    const large = Array.from({ length: 30 }, (_, i) => `k${i}:${"v".repeat(200)}`).join();
    other.send(`id other\n${Array.from({ length: 20 }, (_, i) => `add n${i}:${large}\n`).join("")}ping\n`);
    await other.receives(`ok\nbeat 30\n${"ok\n".repeat(10)}pong\n`);
  });

  it("of one line at most two thousand items are points", async () => {
    await send(Array.from({ length: 2_500 }, () => "a-a:1").join());
    await relay.points(2_001);
    expect(await relay.metric(REJECTED, { reason: "too_many" })).toBe(500);
  });
});
