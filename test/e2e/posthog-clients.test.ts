// PostHog's libraries for servers, unmodified, told the address of a real `millrace start` and a key, and nothing else:
// rows, people, groups and exact times, and each event once when the gateway is killed while they send.
import { randomUUID } from "node:crypto";
import { PostHog } from "posthog-node";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { DRIVERS, isAvailable } from "../kit/drivers.ts";
import { patience } from "../kit/patience.ts";
import { type RunningStandalone, samePorts, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const KEY = "posthog-key";
/** The first run fetches the libraries. */
const TIMEOUT_MS = 600_000;
const { posthogGo: go, posthogPython: python } = DRIVERS;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await startStandalone({ dataDir: directory.path, env: { PUBLIC_API_KEYS: KEY } });
});
afterAll(async () => {
  await standalone[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const port = () => Number(new URL(standalone.url).port);

async function rows<Row>(sql: string): Promise<Row[]> {
  const text = await standalone.query(`${sql} FORMAT JSONEachRow`);
  return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Row);
}

function answers(sql: string, answer: string): Promise<void> {
  return until(async () => (await standalone.query(sql)) === answer, `${answer} from ${sql}`);
}

async function expectAllOf(prefix: string, names: readonly string[], properties: string, group = '{"size":3}') {
  const user = `${prefix}-user`;
  const own = `FROM millrace.events WHERE startsWith(distinct_id, '${prefix}') AND event NOT LIKE '$feature%' OR event = '$groupidentify' AND JSONExtractString(properties, '$group_key') = '${prefix}'`;
  await answers(`SELECT count() ${own}`, String(names.length));
  const events = await rows<{ event: string }>(`SELECT event ${own} ORDER BY event`);
  expect(events.map(({ event }) => event)).toEqual(names.toSorted());
  // Joined by the alias, whichever of its two ids the library makes the first; the group is nobody.
  const people = `SELECT DISTINCT event = '$groupidentify' AS isGroup, person_id AS id ${own} ORDER BY isGroup`;
  await until(async () => (await rows(people)).length === 2, `${prefix} is one person`);
  const [person, nobody] = await rows<{ id: string }>(people);
  expect([[personIdOf(user), personIdOf(`${prefix}-anon`)].includes(person?.id ?? ""), nobody?.id]).toEqual([
    true,
    personIdOf(""),
  ]);
  const [bought] = await rows<{ at: string; properties: string; uuid: string }>(
    `SELECT toString(timestamp) AS at, properties, uuid FROM millrace.events WHERE event = 'bought' AND distinct_id = '${user}'`,
  );
  expect(bought?.at).toBe("2026-03-27 12:00:00.123456");
  expect(JSON.parse(bought?.properties ?? "")).toMatchObject({ price: 3.5, name: "é", $groups: { company: prefix } });
  const persons = `SELECT properties FROM millrace.persons WHERE id = '${person?.id}'`;
  await expect.poll(() => rows(persons)).toEqual([{ properties }]);
  const ids = `SELECT distinct_id AS id FROM millrace.person_distinct_ids WHERE person_id = '${person?.id}' ORDER BY id`;
  await expect.poll(() => rows(ids), { timeout: 20_000 }).toEqual([{ id: `${prefix}-anon` }, { id: user }]);
  const groups = `SELECT type, properties FROM millrace.groups WHERE key = '${prefix}'`;
  await expect.poll(() => rows(groups)).toEqual([{ type: "company", properties: group }]);
}

describe("lands what it sent, with flags that are none and no error", () => {
  it.skipIf(!isAvailable(python)).each(["v0", "v1"])(
    "posthog for Python, capture mode %s",
    { timeout: TIMEOUT_MS },
    async (mode) => {
      const prefix = `py${mode}-${randomUUID().slice(0, 8)}`;
      expect(await python.lines(port(), KEY, mode, prefix)).toEqual(["flag None"]);
      await expectAllOf(
        prefix,
        ["bought", "$set", "$set_once", "$create_alias", "$groupidentify"],
        '{"from":"ad","plan":"pro"}',
      );
    },
  );

  it.skipIf(!isAvailable(go))("posthog-go", { timeout: TIMEOUT_MS }, async () => {
    const prefix = `go-${randomUUID().slice(0, 8)}`;
    expect(await go.lines(port(), KEY, prefix)).toEqual(["flag false <nil>"]);
    await expectAllOf(prefix, ["bought", "$identify", "$create_alias", "$groupidentify"], '{"plan":"pro"}');
  });

  it("posthog-node in capture mode v1", async () => {
    vi.stubEnv("POSTHOG_CAPTURE_MODE", "v1");
    const posthog = new PostHog(KEY, { host: standalone.url });
    vi.unstubAllEnvs();
    const failures: unknown[] = [];
    posthog.on("error", (error: unknown) => failures.push(error));
    const prefix = `node-${randomUUID().slice(0, 8)}`;
    const distinctId = `${prefix}-user`;
    const timestamp = new Date("2026-03-27T12:00:00.123Z");
    posthog.capture({
      distinctId,
      event: "bought",
      properties: { price: 3.5 },
      timestamp,
      groups: { company: prefix },
    });
    posthog.identify({ distinctId, properties: { $set: { plan: "pro" }, $set_once: { from: "ad" } } });
    posthog.groupIdentify({ groupType: "company", groupKey: prefix, properties: { size: 3 } });
    expect(await posthog.getFeatureFlag("beta", distinctId)).toBeUndefined();
    await posthog.shutdown();
    expect(failures).toEqual([]);
    await answers(
      `SELECT count() FROM millrace.events WHERE startsWith(distinct_id, '${prefix}') AND event NOT LIKE '$feature%'`,
      "2",
    );
    const [bought] = await rows<{ at: string; properties: string }>(
      `SELECT toString(timestamp) AS at, properties FROM millrace.events WHERE event = 'bought' AND distinct_id = '${distinctId}'`,
    );
    expect(bought?.at).toBe("2026-03-27 12:00:00.123000");
    expect(JSON.parse(bought?.properties ?? "")).toMatchObject({
      price: 3.5,
      $lib: "posthog-node",
      $groups: { company: prefix },
    });
    const persons = `SELECT properties FROM millrace.persons WHERE distinct_id = '${distinctId}'`;
    await expect.poll(() => rows(persons)).toEqual([{ properties: '{"from":"ad","plan":"pro"}' }]);
    const groups = `SELECT type, properties FROM millrace.groups WHERE key = '${prefix}'`;
    await expect.poll(() => rows(groups)).toEqual([{ type: "company", properties: '{"size":3}' }]);
  });

  it("no flag that was asked for was an error of ours", async () => {
    const errors =
      "SELECT DISTINCT JSONExtractString(properties, '$feature_flag_error') AS error FROM millrace.events WHERE event = '$feature_flag_called'";
    expect(
      (await rows<{ error: string }>(errors)).filter(({ error }) => !["", "flag_missing"].includes(error)),
    ).toEqual([]);
  });
});

describe("the gateway killed while a client sends: each event once", () => {
  it.each(["v0", "v1"])("posthog-node, capture mode %s", { timeout: patience(180_000) }, async (mode) => {
    vi.stubEnv("POSTHOG_CAPTURE_MODE", mode);
    const posthog = new PostHog(KEY, { host: standalone.url });
    vi.unstubAllEnvs();
    const failures: unknown[] = [];
    posthog.on("error", (error: unknown) => failures.push(error));
    const event = `kept ${mode} ${randomUUID()}`;
    const uuids = Array.from({ length: 300 }, () => randomUUID());
    // 15 requests of 20; one after the other of them meets the kill, the restart, and the second process.
    for (const uuid of uuids) posthog.capture({ distinctId: "d", event, uuid });
    const sent = posthog.flush().catch((error: unknown) => failures.push(error));
    const stored = `SELECT count() FROM millrace.events WHERE event = '${event}'`;
    await until(async () => Number(await standalone.query(stored)) > 0, "the first events");
    await using killed = standalone;
    await killed.process.stop("SIGKILL");
    standalone = await startStandalone({
      dataDir: directory.path,
      env: { PUBLIC_API_KEYS: KEY, ...samePorts(killed) },
    });
    await sent;
    await posthog.shutdown(120_000);
    expect(failures).toEqual([]);
    await answers(stored, String(uuids.length));
    expect(await standalone.query(`${stored.replace("count()", "uniqExact(uuid)")}`)).toBe(String(uuids.length));
  });
});
