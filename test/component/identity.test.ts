// Who is who, through the real consumer and engine: what the views show after what was said.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { followLinks, updatePeople } from "#lib/identity/closure.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import {
  type ConsumerOptions,
  createStage,
  poisonRecord,
  type RunningConsumer,
  type Stage,
  withInsert,
} from "../kit/consumer.ts";
import { expectedPeople, recordOf, resolved, type Said, shownPeople } from "../kit/identity.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

interface Scene extends AsyncDisposable {
  warehouse: Warehouse;
  stage: Stage;
  consumer: RunningConsumer;
  /** Stores one batch, and resolves when everybody is who they are after it. */
  say(...batch: Line[]): Promise<void>;
  /** Everything that was said. */
  said: Said[];
  /** Person of each distinct id's events. */
  eventPersons(): Promise<Record<string, string>>;
}

type Line = Pick<Said, "event" | "distinctId" | "properties" | "trusted">;

/** A database of its own, four partitions and a consumer. */
async function createScene(database: string, options: ConsumerOptions = {}, epoch = "e"): Promise<Scene> {
  await clickhouse.migrate(database);
  const warehouse = clickhouse.warehouse(database);
  const stage = await createStage(warehouse, { partitions: 4, epoch });
  const consumer = stage.start(options);
  const said: Said[] = [];
  return {
    ...{ warehouse, stage, consumer, said },
    async say(...batch) {
      const lines = batch.map((line, n): Said => ({ ...line, id: randomUUID(), at: said.length + n }));
      said.push(...lines);
      await stage.append(...lines.map((line) => recordOf(line)));
      await stage.drained();
      await resolved(warehouse);
    },
    async eventPersons() {
      const rows = await warehouse.query<{ d: string; p: string[] }>(
        "SELECT distinct_id AS d, groupUniqArray(person_id) AS p FROM events GROUP BY distinct_id",
      );
      return Object.fromEntries(rows.map(({ d, p }) => [d, p.join()]));
    },
    [Symbol.asyncDispose]: () => stage[Symbol.asyncDispose](),
  };
}

const event = (distinctId: string, properties = {}): Line => ({ event: "seen", distinctId, properties });
const identify = (distinctId: string, anon?: string, more = {}): Line => {
  const properties = anon === undefined ? more : { $anon_distinct_id: anon, ...more };
  return { event: "$identify", distinctId, properties };
};
const set = (distinctId: string, properties: object): Line => ({
  ...{ event: "$set", distinctId },
  properties: { ...properties },
});
const alias = (distinctId: string, other: string, trusted = false): Line => ({
  ...{ event: "$create_alias", distinctId, trusted },
  properties: { alias: other },
});
const merge = (distinctId: string, other: string, trusted = true): Line => ({
  ...{ event: "$merge_dangerously", distinctId, trusted },
  properties: { alias: other },
});
const [a, b] = ["a", "b"].map(personIdOf);

describe("the outcomes of the product analytics contract, section 4.4, as docs/identity.md has them", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await createScene("contract");
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  it.each<[string, (id: (name: string) => string) => Line[][], Record<string, string>]>([
    ["event, later identify", (i) => [[event(i("anon"))], [identify(i("u"), i("anon"))]], { anon: "u", u: "u" }],
    ["both in one batch", (i) => [[event(i("anon")), identify(i("u"), i("anon"))]], { anon: "u", u: "u" }],
    [
      "two ids that are known, then identify",
      (i) => [[event(i("anon"))], [event(i("u"))], [identify(i("u"), i("anon"))]],
      { anon: "u", u: "u" },
    ],
    [
      "one anonymous id, two users",
      (i) => [[identify(i("u1"), i("anon")), identify(i("u2"), i("anon")), event(i("anon"))]],
      { anon: "u1", u1: "u1", u2: "u2" },
    ],
    ["event, then alias", (i) => [[event(i("x"))], [alias(i("d"), i("x"))]], { x: "d", d: "d" }],
    [
      "aliases one after another",
      (i) => [[alias(i("a"), i("b")), alias(i("b"), i("c")), event(i("c"))]],
      { a: "a", b: "a", c: "a" },
    ],
    [
      "an event that only carries an anonymous id",
      (i) => [[event(i("anon"))], [event(i("u"), { $anon_distinct_id: i("anon") })]],
      { anon: "anon", u: "u" },
    ],
  ])("%s", async (name, batches, persons) => {
    const idOf = (id: string) => `${name} ${id}`;
    for (const batch of batches(idOf)) await scene.say(...batch);
    const shown = await scene.eventPersons();
    const expected = Object.entries(persons).map(([id, person]) => [idOf(id), personIdOf(idOf(person))]);
    expect(expected.filter(([id = "", person]) => shown[id] !== undefined && shown[id] !== person)).toEqual([]);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
  });
});

describe("people", () => {
  it("are named after the id that was identified, and their earlier events with them", async () => {
    await using scene = await createScene("named");
    await scene.say(event("anon_1"), event("anon_1"));
    await scene.say(event("user_123"));
    await scene.say(identify("user_123", "anon_1", { $set: { plan: "pro" } }));
    const person = "c0486609-82cd-5d27-a86e-f354f09b7ee0";
    expect(await scene.eventPersons()).toEqual({ anon_1: person, user_123: person });
    const persons = await scene.warehouse.query("SELECT distinct_id, id, properties, is_identified FROM persons FINAL");
    expect(persons).toEqual([{ distinct_id: "user_123", id: person, properties: '{"plan":"pro"}', is_identified: 1 }]);
  });

  it("stay identified, keep the digits of their numbers, and have no row for events that say nothing about them", async () => {
    await using scene = await createScene("sticky");
    await scene.say(identify("u"), event("plain"), event("told", { $set: { n: 1 } }));
    await scene.say({ ...set("u", {}), properties: '{"$set":{"n":1.50,"big":[9007199254740993]}}' });
    await scene.say(set("w", { $set_once: { first: 1 }, $unset: ["gone"] }), set("w", { $set_once: { first: 2 } }));
    const persons = await scene.warehouse.query(
      "SELECT distinct_id AS d, is_identified AS i, properties AS p FROM persons FINAL ORDER BY d",
    );
    expect(persons).toEqual([
      { d: "told", i: 0, p: '{"n":1}' },
      { d: "u", i: 1, p: '{"big":[9007199254740993],"n":1.50}' },
      { d: "w", i: 0, p: '{"first":1}' },
    ]);
  });

  it("are joined by trusted callers, with their properties and history, and by nobody else", async () => {
    await using scene = await createScene("joined");
    await scene.say(identify("a", "x", { $set: { name: "A", n: 1 } }), identify("b", "y", { $set: { name: "B" } }));
    await scene.say(merge("a", "b", false), alias("a", "b", false), event("x"), event("y"));
    expect(await scene.eventPersons()).toEqual({ a, x: a, b, y: b });
    await scene.say(merge("a", "b"));
    expect(await scene.eventPersons()).toEqual({ a, x: a, b: a, y: a });
    const persons = await scene.warehouse.query("SELECT id, properties FROM persons FINAL");
    expect(persons).toEqual([{ id: a, properties: '{"n":1,"name":"B"}' }]);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
  });

  it("survive hostile ids, keys and circles", async () => {
    await using scene = await createScene("hostile");
    const long = "\u{1F600}".repeat(16_384);
    const odd = `'); DROP TABLE persons; --"\\\n\u0000\t{x:String}`;
    await scene.say(identify(long, odd), identify(odd, odd), identify(" ", "q"), identify("z", " "));
    await scene.say(alias("c1", "c2"), alias("c2", "c3"), alias("c3", "c1"), alias(odd, odd));
    const $set = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`${odd}${n}`, { [odd]: n }]));
    await scene.say(set(long, { $set, $unset: [odd] }), event(" "));
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
  });

  it("may have a thousand ids, merged one by one", async () => {
    await using scene = await createScene("thousand");
    const chain = Array.from({ length: 500 }, (_, n) => merge(`m${n}`, `m${n + 1}`));
    const star = Array.from({ length: 500 }, (_, n) => merge("m0", `s${n}`));
    for (let at = 0; at < 500; at += 100) await scene.say(...chain.slice(at, at + 100), ...star.slice(at, at + 100));
    const [row] = await scene.warehouse.query<{ n: string; people: string[] }>(
      "SELECT count() AS n, groupUniqArray(person_id) AS people FROM person_distinct_ids FINAL",
    );
    expect(row).toEqual({ n: "1001", people: [personIdOf("m0")] });
  });

  it("wait for ClickHouse, whatever it is that fails", async () => {
    const failures = new Map<string, number>();
    const warehouse = withInsert(async ({ table }, insert) => {
      const count = failures.get(table) ?? 0;
      failures.set(table, count + 1);
      // The first answer is lost, the second attempt is refused.
      if (count === 0) await insert();
      if (count === 0) throw new WarehouseError("the socket closed", "transient");
      if (count === 1 && table !== "events_raw") throw new WarehouseError("not now", "rejected", 27);
      return insert();
    });
    await using scene = await createScene("away", { warehouse });
    await scene.say(identify("a", "x", { $set: { n: 1 } }), event("x"));
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
    const tables = ["identity_edges", "identity_ids", "identity_properties", "person_overrides"];
    for (const table of tables) expect(failures.get(table), table).toBeGreaterThan(2);
  });

  it("that cannot be resolved any more are a reason not to be ready", async () => {
    const warehouse = withInsert(async ({ table }, insert) => {
      if (table === "person_overrides") throw new TypeError("a bug");
      return insert();
    });
    await using scene = await createScene("broken", { warehouse });
    const { check } = scene.consumer.checks.find(({ name }) => name === "identity") ?? {};
    const signal = new AbortController().signal;
    await expect(check?.(signal)).resolves.toBeUndefined();
    await scene.stage.append(recordOf({ ...identify("a", "x"), id: randomUUID() }));
    await until(
      () =>
        Promise.resolve(check?.(signal)).then(
          () => false,
          () => true,
        ),
      "it is noticed",
    );
    await expect(check?.(signal)).rejects.toThrow("identity is not resolved any more: restart the consumer");
  });

  it("are made of rows alone: a duplicate says nothing", async () => {
    await using scene = await createScene("rows");
    const said: Said = { ...identify("a", "x"), id: randomUUID() };
    const again: Said = { ...identify("a", "y"), id: said.id, at: 1 };
    await scene.stage.append(recordOf(said), recordOf(again), poisonRecord);
    await scene.say(merge("a", "b", false));
    expect(await scene.warehouse.query("SELECT DISTINCT distinct_id AS d FROM identity_ids ORDER BY d")).toEqual([
      { d: "a" },
      { d: "x" },
    ]);
    expect(await scene.stage.metric(scene.consumer, "millrace_identity_merges_refused_total")).toBe(1);
  });

  it("are made again from the links alone by a consumer whose watermark and people were emptied", async () => {
    await using scene = await createScene("rebuilt");
    await scene.say(identify("a", "x"), identify("b", "y"), identify("b", "x"), merge("a", "b"), event("z"));
    await scene.consumer[Symbol.asyncDispose]();
    const wrong = new Map([[personIdOf("z"), personIdOf("nobody")]]);
    await createIdentityStore(scene.warehouse).write(wrong, Number.MAX_SAFE_INTEGER);
    expect(await shownPeople(scene.warehouse)).not.toEqual(expectedPeople(scene.said));
    for (const table of ["person_overrides", "identity_progress"])
      await scene.warehouse.command(`TRUNCATE TABLE ${table}`);
    scene.stage.start();
    await resolved(scene.warehouse);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
  });

  it("are right after a new epoch, though the last consumer of the old one died before it resolved them", async () => {
    const warehouse = withInsert(async ({ table }, insert) => {
      if (table === "person_overrides") throw new WarehouseError("not now", "transient");
      return insert();
    });
    const before = [identify("a", "x"), event("x")].map((line, n): Said => ({ ...line, id: randomUUID(), at: n }));
    {
      await using old = await createScene("epochs", { warehouse }, "old");
      await old.stage.append(...before.map((line) => recordOf(line)));
      await old.stage.drained();
      expect(await shownPeople(old.warehouse)).not.toEqual(expectedPeople(before));
    }
    await using scene = await createScene("epochs", {}, "new");
    await resolved(scene.warehouse);
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(before));
  });

  it("are right around ids that very many others name, though not all of those are looked at", async () => {
    await using scene = await createScene("hubs");
    const numbers = Array.from({ length: 20 }, (_, n) => n);
    await scene.say(...numbers.flatMap((n) => [identify("hub", `anon${n}`), identify(`user${n}`, "everybody")]));
    await scene.warehouse.command("TRUNCATE TABLE person_overrides");
    const store = createIdentityStore(scene.warehouse, { edgesPerIdMax: 3 });
    for (const n of numbers) {
      const seeds = ["hub", `anon${n}`, `user${n}`, "everybody"].map(personIdOf);
      const { ids } = await updatePeople(seeds, store, 1000);
      expect(ids.size).toBeLessThan(12);
    }
    expect(await shownPeople(scene.warehouse)).toEqual(expectedPeople(scene.said));
  });

  it("are those that they were in a component that has grown beyond reason, whatever is said later", async () => {
    await using scene = await createScene("frozen");
    const chain = Array.from({ length: 12 }, (_, n) => alias(`c${n}`, `c${n + 1}`));
    await scene.say(...chain);
    const store = createIdentityStore(scene.warehouse);
    const link = ["c0", "c1"].map(personIdOf) as [string, string];
    expect((await followLinks([link], store, 6)).frozen).toEqual([{ ids: 6, link }]);
    const before = await scene.eventPersons();
    const seen = { event: "seen", distinctId: "late", properties: {} };
    await scene.say(identify("stranger", "c0"), alias("c1", "late"), seen, alias("elsewhere", "nobody"));
    const after = await scene.eventPersons();
    expect(after).toMatchObject(before);
    expect([after.c1, after.late]).toEqual([after.c0, after.c0]);
    expect(after.stranger).not.toBe(after.c0);
    expect((await followLinks([link], store, 6)).frozen).toEqual([]);
  });
});
