// Segment's and RudderStack's libraries as npm and PyPI have them, told only the address of a real `millrace start` and a key;
// and rows that a caller of /v0/events waits for.
import { fileURLToPath } from "node:url";
import { Analytics } from "@segment/analytics-node";
import { afterAll, beforeAll, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { DRIVERS, isAvailable } from "../kit/drivers.ts";
import { type RunningStandalone, run, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const KEY = "segment-key";
const SETTINGS = { PUBLIC_API_KEYS: KEY };
const HOST_PROGRAM = fileURLToPath(new URL("../kit/rudder-host.ts", import.meta.url));

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await startStandalone({ dataDir: directory.path, env: SETTINGS });
});
afterAll(async () => {
  await standalone?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

async function rows<Row>(sql: string): Promise<Row[]> {
  const text = await standalone.query(`${sql} FORMAT JSONEachRow`);
  return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Row);
}

/** Resolves when the query answers so. */
function answers(sql: string, answer: string): Promise<void> {
  return until(async () => (await standalone.query(sql)) === answer, `${answer} from ${sql}`);
}

interface Row {
  event: string;
  person_id: string;
  properties: Record<string, unknown>;
  original: string;
  /** By how much the time was corrected. */
  skew: number;
}

const THEN = new Date("2026-03-27T12:00:00.250Z");

/** Of one distinct id, in the order of the log. */
async function rowsOf(user: string): Promise<Row[]> {
  const found = await rows<Row & { properties: string }>(
    `SELECT event, person_id, properties, original_timestamp AS original,
       toInt32(toUnixTimestamp64Milli(timestamp) - ${THEN.getTime()}) AS skew
     FROM millrace.events WHERE distinct_id = '${user}' ORDER BY log_partition, log_offset`,
  );
  return found.map((row) => ({ ...row, properties: JSON.parse(row.properties) as Record<string, unknown> }));
}

/** What every library was told to send for `user`. `isCorrected`: its time is corrected by `sentAt`. */
async function expectStored(user: string, library: string, isCorrected = true): Promise<void> {
  await answers(`SELECT count() FROM millrace.events WHERE distinct_id = '${user}'`, "6");
  const found = await rowsOf(user);
  const byEvent = Object.fromEntries(found.map((row) => [row.event, row]));
  expect(found.map(({ event }) => event).sort()).toEqual(
    ["$create_alias", "$groupidentify", "$identify", "$pageview", "$screen", "Order Paid"].sort(),
  );
  // What is said about a group is said by nobody in particular.
  const people = found.filter(({ event }) => event !== "$groupidentify").map(({ person_id }) => person_id);
  expect(new Set(people)).toEqual(new Set([personIdOf(user)]));
  expect(byEvent["Order Paid"]?.properties).toMatchObject({ value: 49.9, items: ["a", "é"], $lib: library });
  const { original = "", skew } = byEvent["Order Paid"] ?? {};
  if (!isCorrected) {
    expect([original, skew]).toEqual(["", 0]);
  } else {
    expect(Date.parse(original)).toBe(THEN.getTime());
    // The clocks are one: what is corrected is the way here.
    expect(skew).toBeGreaterThan(0);
    expect(skew).toBeLessThan(60_000);
  }
  expect(byEvent.$pageview?.properties).toMatchObject({ name: "Home", url: "https://app.example/docs" });
  expect(byEvent.$screen?.properties).toMatchObject({ $screen_name: "Start" });
  expect(byEvent.$groupidentify?.properties).toMatchObject({ $group_key: "acme", $group_set: { size: 3 } });
  expect(byEvent.$create_alias?.properties).toMatchObject({ alias: `old-${user}` });
  const person = `SELECT properties FROM millrace.persons FINAL WHERE distinct_id = '${user}'`;
  // Who is who is worked out after the rows are stored.
  await answers(person, '{"plan":"pro","seats":3}');
  const alias = `SELECT person_id FROM millrace.person_distinct_ids FINAL WHERE distinct_id = 'old-${user}'`;
  await answers(alias, personIdOf(user));
}

function analyticsNode(host: string): { analytics: Analytics; failures: unknown[] } {
  const analytics = new Analytics({ writeKey: KEY, host });
  const failures: unknown[] = [];
  analytics.on("error", (error) => failures.push(error));
  return { analytics, failures };
}

/** Whatever the library, it is one group. */
async function expectGroup(): Promise<void> {
  const group = "SELECT type, key, properties FROM millrace.groups WHERE key = 'acme'";
  await until(async () => (await rows(group)).length === 1, "the group");
  expect(await rows(group)).toEqual([{ type: "group", key: "acme", properties: '{"size":3}' }]);
}

it("@segment/analytics-node", async () => {
  const { analytics, failures } = analyticsNode(standalone.url);
  const userId = "node-segment";
  analytics.identify({ userId, traits: { plan: "pro", seats: 3 } });
  analytics.track({ userId, event: "Order Paid", properties: { value: 49.9, items: ["a", "é"] }, timestamp: THEN });
  analytics.page({ userId, category: "Docs", name: "Home", properties: { url: "https://app.example/docs" } });
  analytics.screen({ userId, name: "Start" });
  analytics.group({ userId, groupId: "acme", traits: { size: 3 } });
  analytics.alias({ userId, previousId: `old-${userId}` });
  await analytics.closeAndFlush();
  expect(failures).toEqual([]);
  await expectStored(userId, "@segment/analytics-node");
  await expectGroup();
});

it("@rudderstack/rudder-sdk-node, whose process lives on whatever is at fault in a batch", async () => {
  // A process of its own, because this library ends its process when a request fails.
  const { code, stdout, stderr } = await run(process.execPath, [HOST_PROGRAM, standalone.url, KEY, THEN.toISOString()]);
  expect([code, stdout.split("\n").at(-2), stderr]).toEqual([0, "alive", ""]);
  // It has two times: its own, and the one that its caller named, which counts.
  await expectStored("node-rudder", "analytics-node", false);
});

it.skipIf(!isAvailable(DRIVERS.segmentPython))(
  "segment-analytics-python and rudder-sdk-python",
  { timeout: 600_000 },
  async () => {
    expect(await DRIVERS.segmentPython.lines(Number(new URL(standalone.url).port))).toEqual([
      "segment []",
      "rudder []",
    ]);
    await expectStored("py-segment", "analytics-python");
    await expectStored("py-rudder", "analytics-python");
    await expectGroup();
  },
);

it("rows of /v0/events are stored when the answer is 200", async () => {
  const body = '{"event":"line","distinct_id":"nd","n":1}\nnot json\n{"event":"line","distinct_id":"nd","n":2}\n';
  const headers = { authorization: `Bearer ${KEY}` };
  const answer = await fetch(`${standalone.url}/v0/events?name=line&wait=true`, { method: "POST", headers, body });
  // Asked at once: nobody waits here.
  const stored = await standalone.query("SELECT count() FROM millrace.events WHERE distinct_id = 'nd'");
  expect([answer.status, await answer.json()]).toMatchObject([200, { successful_rows: 2, quarantined_rows: 1 }]);
  expect(stored).toBe("2");
});
