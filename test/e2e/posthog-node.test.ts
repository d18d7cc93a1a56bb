// posthog-node as npm has it, told only the address of a real `millrace start` and a key.
import { randomUUID } from "node:crypto";
import { type EventMessage, PostHog } from "posthog-node";
import { afterAll, beforeAll, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { postBatch } from "../kit/batch-calls.ts";
import { type RunningStandalone, runMillrace, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const KEY = "posthog-key";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
beforeAll(async () => {
  directory = await temporaryDirectory();
  const env = { PUBLIC_API_KEYS: KEY, EVENTS_RETENTION: "90d" };
  standalone = await startStandalone({ dataDir: directory.path, env });
});
afterAll(async () => {
  await standalone[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

async function rows<Row>(sql: string): Promise<Row[]> {
  const text = await standalone.query(`${sql} FORMAT JSONEachRow`);
  return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Row);
}

/** Resolves when the query answers so. */
function answers(sql: string, answer: string): Promise<void> {
  return until(async () => (await standalone.query(sql)) === answer, `${answer} from ${sql}`);
}

const ALL = "SELECT count() FROM millrace.events";

const timestamp = new Date(Date.now() - 3_600_000);
const [first, second] = [randomUUID(), randomUUID()];
const captured: EventMessage[] = [
  { distinctId: "anon_1", event: "page viewed", uuid: first, timestamp, properties: { path: "/", $session_id: "s1" } },
  {
    distinctId: "user_1",
    event: "order paid",
    uuid: second,
    properties: { value: 49.9, items: ["a", "é"] },
    groups: { company: "acme" },
  },
];

it("captures, identifies, aliases and flushes: rows, people and mappings are right", async () => {
  const posthog = new PostHog(KEY, { host: standalone.url, flushAt: 1000, flushInterval: 60_000, fetchRetryDelay: 20 });
  const failures: unknown[] = [];
  posthog.on("error", (error: unknown) => failures.push(error));
  for (const message of captured) posthog.capture(message);
  posthog.identify({
    distinctId: "user_1",
    properties: { $set: { plan: "pro" }, $set_once: { from: "ad" }, $anon_distinct_id: "anon_1" },
  });
  posthog.identify({ distinctId: "user_1", properties: { plan: "team" } });
  posthog.alias({ distinctId: "user_1", alias: "backend_1" });
  posthog.groupIdentify({ groupType: "company", groupKey: "acme", properties: { size: 3 } });
  await posthog.flush();
  posthog.capture({ distinctId: "backend_1", event: "invoice sent" });
  // The rest goes out with the shutdown.
  await posthog.shutdown();
  expect(failures).toEqual([]);
  await answers(ALL, "7");
  const user = personIdOf("user_1");
  // Who is who is worked out after the rows are stored.
  await answers(`${ALL} WHERE person_id = '${user}'`, "6");

  type Row = Record<
    "event" | "distinct_id" | "uuid" | "api_key" | "person_id" | "session_id" | "properties",
    string
  > & { age: number };
  const events = await rows<Row>(
    `SELECT event, distinct_id, uuid, api_key, person_id, session_id, properties,
       toInt32(dateDiff('second', timestamp, now64(6))) AS age FROM millrace.events ORDER BY log_offset`,
  );
  const group = events.find(({ event }) => event === "$groupidentify");
  expect(events.map(({ event, distinct_id, person_id }) => [event, distinct_id, person_id])).toEqual([
    ["page viewed", "anon_1", user],
    ["order paid", "user_1", user],
    ["$identify", "user_1", user],
    ["$identify", "user_1", user],
    ["$create_alias", "user_1", user],
    // About a group, and nobody.
    ["$groupidentify", group?.distinct_id, personIdOf("")],
    ["invoice sent", "backend_1", user],
  ]);
  expect(events.slice(0, 2).map(({ uuid }) => uuid)).toEqual([first, second]);
  expect(new Set(events.map(({ api_key }) => api_key))).toEqual(new Set([KEY]));
  expect(events.map(({ session_id }) => session_id)).toEqual(["s1", "", "", "", "", "", ""]);
  expect(JSON.parse(events[0]?.properties ?? "")).toMatchObject({ path: "/", $lib: "posthog-node" });
  const paid = { value: 49.9, items: ["a", "é"], $groups: { company: "acme" } };
  expect(JSON.parse(events[1]?.properties ?? "")).toMatchObject(paid);
  // Events without a time happened now; the given one stays as it is.
  for (const { age } of events.slice(1)) expect(age).toBeLessThan(60);
  const timed = `SELECT toString(toUnixTimestamp64Milli(timestamp)) AS ms, original_timestamp AS original FROM millrace.events`;
  expect(await rows(`${timed} WHERE uuid = '${first}'`)).toEqual([{ ms: String(timestamp.getTime()), original: "" }]);

  const persons = await rows("SELECT distinct_id, id, is_identified, properties FROM millrace.persons FINAL");
  expect(persons).toEqual([
    { distinct_id: "user_1", id: user, is_identified: 1, properties: '{"from":"ad","plan":"team"}' },
  ]);
  const mapped = await rows(
    "SELECT distinct_id, person_id FROM millrace.person_distinct_ids FINAL WHERE distinct_id LIKE '%\\\\_1' ORDER BY distinct_id",
  );
  expect(mapped).toEqual(["anon_1", "backend_1", "user_1"].map((id) => ({ distinct_id: id, person_id: user })));
  await answers("SELECT count() FROM millrace.person_distinct_ids", "3");
  const groups = await rows("SELECT type, key, properties FROM millrace.groups");
  expect(groups).toEqual([{ type: "company", key: "acme", properties: '{"size":3}' }]);
});

it("adds no rows when it sends the same events again", async () => {
  const before = Number(await standalone.query(ALL));
  const again = new PostHog(KEY, { host: standalone.url, flushAt: 1000, flushInterval: 60_000 });
  for (const message of captured) again.capture(message);
  again.capture({ distinctId: "user_1", event: "after" });
  await again.shutdown();
  await answers(ALL, String(before + 1));
  const uuids = await rows<{ n: string }>(
    `SELECT toString(count()) AS n FROM millrace.events WHERE uuid IN ('${first}', '${second}')`,
  );
  expect(uuids).toEqual([{ n: "2" }]);
});

it("asks for feature flags, gets none, and goes on capturing", async () => {
  const before = Number(await standalone.query(ALL));
  const posthog = new PostHog(KEY, { host: standalone.url, fetchRetryCount: 0, flushAt: 1000, flushInterval: 60_000 });
  expect(await posthog.getFeatureFlag("beta", "user_1", { sendFeatureFlagEvents: false })).toBeUndefined();
  posthog.capture({ distinctId: "user_1", event: "with flags", sendFeatureFlags: true });
  await posthog.shutdown();
  await answers(ALL, String(before + 1));
});

it("what came in is what the audit and the commands see", async () => {
  const port = Number(new URL(standalone.url).port);
  expect((await postBatch(port, [{ event: "e", distinct_id: "d" }], { api_key: "another" })).status).toBe(401);
  const verify = await runMillrace(["verify", "--wait", "30s"], standalone.env);
  expect(verify.stdout).toMatch(/11 offsets accounted for, 0 missing, 0 doubled\n$/);
  const promoted = await runMillrace(["properties", "promote", "path"], standalone.env);
  expect(promoted, promoted.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining("p_path String") });
  expect(await standalone.query(`SELECT p_path FROM millrace.events WHERE uuid = '${first}'`)).toBe("/");
  const listed = await runMillrace(["properties", "ls"], standalone.env);
  expect(listed.stdout).toMatch(/^"\$lib" +100\.0 % +string +"posthog-node"$/m);
  expect(await standalone.query("SELECT engine_full FROM system.tables WHERE name = 'events_raw'")).toContain(
    "toIntervalSecond(7776000)",
  );
});
