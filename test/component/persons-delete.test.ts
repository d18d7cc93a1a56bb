// `millrace persons delete` as a person uses it: the standalone's log, the real consumer and engine.
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/persons/main.ts";
import { auditLog, isClean } from "../../commands/verify/audit.ts";
import { repairGaps } from "../../commands/verify/repair.ts";
import { type Consumer, startConsumer } from "../../services/consumer/app.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { BATCHES, eventRecord } from "../kit/consumer.ts";
import { expectedPeople, recordOf, type Said, shownPeople } from "../kit/identity.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

type Line = Pick<Said, "event" | "distinctId" | "properties" | "trusted"> & { id?: string };

interface Scene extends AsyncDisposable {
  warehouse: Warehouse;
  epoch: string;
  said: Said[];
  startConsumer(): Consumer;
  append(...records: AppendRecord[]): Promise<void>;
  /** Appends without waiting. */
  tell(...lines: Line[]): Promise<void>;
  /** Appends, and waits until all is stored and everybody is who they are. */
  say(...lines: Line[]): Promise<void>;
  drained(): Promise<void>;
  /** `millrace persons delete ...`. */
  delete(...args: string[]): Promise<{ code: number; out: string; err: string }>;
  verify(): Promise<boolean>;
  /** Offsets that are missing are stored again from the log. */
  repair(): Promise<void>;
  count(from: string): Promise<number>;
  /** When the log took the record, as ISO 8601 has it. */
  appendedAt(offset: number): Promise<string>;
}

async function createScene(database: string): Promise<Scene> {
  await clickhouse.migrate(database);
  const warehouse = clickhouse.warehouse(database);
  const directory = await mkdtemp(join(tmpdir(), "millrace-persons-"));
  const log = await createSqliteLog({ file: join(directory, "log.sqlite") });
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
  const said: Said[] = [];
  const consumers: Consumer[] = [];
  const env = { DATA_DIR: directory, CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: database };
  const audit = () => auditLog({ log, warehouse, kind: STORED_EVENTS });
  const scene: Scene = {
    warehouse,
    said,
    epoch: (await log.epoch()) ?? "",
    startConsumer() {
      const parts = { kinds: [EVENTS], log, warehouse, registry: new Registry(), logger: pino({ level: "silent" }) };
      const consumer = startConsumer(BATCHES, parts);
      consumers.push(consumer);
      return consumer;
    },
    async append(...records) {
      await log.append(EVENTS_TOPIC, records);
    },
    async tell(...lines) {
      const all = lines.map((line, n): Said => ({ id: randomUUID(), ...line, at: said.length + n }));
      said.push(...all);
      await scene.append(...all.map((line) => recordOf(line)));
    },
    async say(...lines) {
      await scene.tell(...lines);
      await scene.drained();
    },
    async drained() {
      const [bounds] = await log.bounds(EVENTS_TOPIC);
      await until(async () => {
        const commit = (await log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0);
        return commit?.offset === bounds?.end && !commit?.metadata.includes('"to"');
      }, "everything is committed");
      await until(async () => {
        const edges = "identity_edges WHERE kind != 'erased' AND log_offset >=";
        return (await scene.count(`${edges} (SELECT max(next_offset) FROM identity_progress)`)) === 0;
      }, "every edge is resolved");
    },
    async delete(...args) {
      const out: string[] = [];
      const err: string[] = [];
      const terminal = { out: (text: string) => void out.push(text), err: (text: string) => void err.push(text) };
      const code = await main(["delete", ...args], env, terminal);
      return { code, out: out.join(""), err: err.join("") };
    },
    verify: async () => isClean(await audit()),
    async repair() {
      const found = await audit();
      const gaps = found.partitions.map(({ partition, missing }) => ({ partition, ranges: missing.ranges }));
      await repairGaps({ log, warehouse, kind: STORED_EVENTS }, found, gaps);
    },
    async count(from) {
      const [row] = await warehouse.query<{ n: string }>(`SELECT count() AS n FROM ${from}`);
      return Number(row?.n ?? 0);
    },
    async appendedAt(from) {
      const read = { from, maxRecords: 1, maxBytes: 1, maxWaitMs: 1000 };
      const [record] = await log.tail(EVENTS_TOPIC, 0, read);
      return new Date(record?.appendTimeMs ?? Number.NaN).toISOString();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(consumers.map((consumer) => consumer[Symbol.asyncDispose]()));
      await log[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return scene;
}

const seen = (distinctId: string): Line => ({ event: "seen", distinctId });
const identify = (distinctId: string, anon: string, more = {}): Line => ({
  ...{ event: "$identify", distinctId },
  properties: { $anon_distinct_id: anon, ...more },
});
const set = (distinctId: string, $set: object): Line => ({ event: "$set", distinctId, properties: { $set } });
const merge = (distinctId: string, alias: string): Line => ({
  ...{ event: "$merge_dangerously", distinctId, trusted: true },
  properties: { alias },
});

/** Lines of others than these ids. */
function without(said: readonly Said[], ids: readonly string[]): Said[] {
  return said.filter(({ distinctId }) => !ids.includes(distinctId));
}

describe("millrace persons delete", () => {
  it("leaves nothing of a person with all its ids, and everything of everybody else", async () => {
    await using scene = await createScene("whole");
    scene.startConsumer();
    await scene.say(
      ...[seen("anon1"), identify("ann", "anon1", { $set: { mail: "ann@example.org" }, $set_once: { first: 1 } })],
      ...[identify("ann2", "anon2"), set("ann2", { phone: 1 }), merge("ann", "ann2"), seen("ann2")],
      ...[
        identify("bob", "anon3", { $set: { mail: "b" } }),
        seen("bob"),
        seen("anon3"),
        seen("carl"),
        identify("bob", "anon1"),
      ],
    );
    const before = (await shownPeople(scene.warehouse)).filter(({ id }) => id !== personIdOf("ann"));
    const { code, out } = await scene.delete("--distinct-id", "anon2", "--yes");
    expect(out).toContain("persons: nothing is left\n");
    expect(code).toBe(0);
    expect(out).toContain("6 events and dead letters");
    expect(out).toMatch(/on the log until \d{4}-.*: the person's records/);
    expect(await shownPeople(scene.warehouse)).toEqual(before);
    const rest = without(scene.said, ["ann", "ann2", "anon1", "anon2"]);
    expect(await scene.count("events_raw SETTINGS apply_deleted_mask = 0")).toBe(rest.length);
    expect(await scene.verify()).toBe(true);
    // Bob, whose identify named an id of hers, is identified still: nobody can claim him.
    await scene.say(identify("mallory", "bob"));
    expect((await shownPeople(scene.warehouse, "bob"))[0]?.id).toBe(personIdOf("bob"));
  });

  it("prints queries that find nothing, and prints them again when asked again", async () => {
    await using scene = await createScene("again");
    scene.startConsumer();
    await scene.say(identify("u", "a", { $set: { n: 1 } }), seen("u"), seen("other"));
    const first = await scene.delete(personIdOf("u"), "--yes", "--json");
    const certificate = JSON.parse(first.out);
    expect(certificate).toMatchObject({ clean: true, erased: 2, person: personIdOf("u") });
    const newestAt = await scene.appendedAt(2);
    expect(certificate.remains).toEqual([{ partition: 0, from: 0, to: 2, newestAt }]);
    expect(Date.parse(certificate.remainsUntil)).toBe(Date.parse(newestAt) + 7 * 86_400_000);
    const queries = certificate.checks.flatMap(({ query }: { query?: string }) => query ?? []);
    expect(queries).toHaveLength(7);
    for (const query of queries) expect(await scene.warehouse.query(query)).toEqual([{ n: "0" }]);
    const second = await scene.delete(personIdOf("u"), "--json");
    expect(JSON.parse(second.out)).toEqual(certificate);
    expect(second.code).toBe(0);
  });

  it("makes later events of the ids a new person's, with what they set", async () => {
    await using scene = await createScene("later");
    scene.startConsumer();
    await scene.say(identify("u", "a", { $set: { old: 1 } }), seen("a"), set("v", { n: 1 }));
    expect((await scene.delete(personIdOf("u"), "--yes")).code).toBe(0);
    const later = [seen("a"), set("u", { fresh: 2 }), merge("v", "a")];
    const from = scene.said.length;
    await scene.say(...later);
    const all = scene.said.filter(({ distinctId }, n) => n >= from || distinctId === "v");
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(all));
    expect(await scene.count("events WHERE distinct_id IN ('a', 'u')")).toBe(2);
    expect((await scene.delete("--distinct-id", "u", "--yes")).code).toBe(0);
    expect(await scene.count("events WHERE distinct_id = 'u'")).toBe(0);
    expect(await scene.verify()).toBe(true);
  });

  it("finds ids with quotes, line breaks and SQL, and the dead letters that speak of them", async () => {
    await using scene = await createScene("hostile");
    scene.startConsumer();
    const odd = ` '); DROP TABLE persons; --"\\\n\t{erasure:UUID}`;
    const broken = eventRecord({ distinctId: odd, timeUs: 1e17 });
    const garbage = { key: Buffer.from(odd), value: Buffer.from([0x0a, 0xff, 1]) };
    const others = { key: Buffer.from("other"), value: Buffer.from([0x0a, 0xff, 1]) };
    await scene.append(broken, garbage, others);
    await scene.say(identify(odd, `${odd}2`, { $set: { [odd]: odd } }), seen(`${odd}2`), seen("other"));
    expect(await scene.count("dead_letters")).toBe(3);
    const { code, out } = await scene.delete("--distinct-id", `${odd}2`, "--yes");
    expect(out).toContain("4 events and dead letters");
    expect(code).toBe(0);
    expect(await scene.count("dead_letters")).toBe(1);
    expect(await scene.count("log_outcomes WHERE outcome = 'dead_letter'")).toBe(1);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(without(scene.said, [odd, `${odd}2`])));
    expect(await scene.verify()).toBe(true);
  });

  it("is not undone by verify --repair, not even for offsets whose outcomes are lost", async () => {
    await using scene = await createScene("repaired");
    scene.startConsumer();
    await scene.say(seen("u"), seen("w"), identify("u", "a"), seen("a"), { ...seen("w"), id: randomUUID() });
    await scene.delete("--distinct-id", "a", "--yes");
    await scene.warehouse.command("ALTER TABLE log_outcomes DELETE WHERE true SETTINGS mutations_sync = 2");
    await scene.warehouse.command("ALTER TABLE events_raw DELETE WHERE log_offset = 4 SETTINGS mutations_sync = 2");
    expect(await scene.verify()).toBe(false);
    await scene.repair();
    expect(await scene.verify()).toBe(true);
    expect(await scene.count("events_raw WHERE distinct_id != 'w'")).toBe(0);
    expect(await scene.count("events_raw WHERE distinct_id = 'w'")).toBe(2);
    expect(await scene.count("log_outcomes WHERE outcome = 'erased'")).toBe(3);
  });

  it("hides what is stored while the consumer is down, says so, and goes on when asked again", async () => {
    await using scene = await createScene("down");
    const consumer = scene.startConsumer();
    await scene.say(identify("u", "a", { $set: { n: 1 } }), seen("u"), seen("w"));
    await consumer[Symbol.asyncDispose]();
    await scene.tell(seen("u"), merge("u", "x"), seen("w"), seen("x"));
    const first = await scene.delete("--distinct-id", "u", "--yes", "--wait", "300ms");
    expect(first.code).toBe(1);
    expect(first.err).toContain("partition 0 stands at offset 3 of 7");
    expect(await scene.count("events WHERE distinct_id IN ('u', 'a')")).toBe(0);
    expect(await scene.count("persons WHERE distinct_id = 'u'")).toBe(0);
    expect(await scene.verify()).toBe(true);
    scene.startConsumer();
    const second = await scene.delete("--distinct-id", "u", "--yes");
    expect(second.code).toBe(0);
    expect(await scene.count("events")).toBe(2);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople([{ ...seen("w"), id: randomUUID() }]));
    expect(await scene.verify()).toBe(true);
  });

  it("does nothing without --yes, nor for nobody", async () => {
    await using scene = await createScene("asked");
    scene.startConsumer();
    await scene.say(seen("u"), seen("u"));
    const dry = await scene.delete("--distinct-id", "u", "--dry-run");
    expect([dry.code, dry.out]).toEqual([0, expect.stringContaining("2 events, 0 dead letters")]);
    expect((await scene.delete("--distinct-id", "u")).code).toBe(2);
    expect((await scene.delete("--distinct-id", "U", "--yes")).code).toBe(1);
    expect((await scene.delete("--distinct-id", "", "--yes")).code).toBe(2);
    expect((await scene.delete(personIdOf(""), "--yes")).code).toBe(2);
    expect((await scene.delete("u", "--yes")).err).toContain("an ID is a UUID");
    expect((await scene.delete(personIdOf("u"), "--distinct-id", "u", "--yes")).code).toBe(2);
    expect(await scene.count("events")).toBe(2);
    expect(await scene.count("erasures")).toBe(0);
  });
});
