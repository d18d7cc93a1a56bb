// `millrace properties` on a real ClickHouse, with rows as the real consumer stores them.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { prepareStores } from "#lib/ledger/prepare-stores.ts";
import { createLogger } from "#lib/process/log.ts";
import {
  applyPromoted,
  columnNameOf,
  demote,
  fillStateOf,
  type PromotedProperty,
  promote,
  readPromoted,
} from "#lib/warehouse/promoted-columns.ts";
import { promotedColumnsIn, withPromotedColumns } from "#lib/warehouse/promoted-view.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/properties/main.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callCommand } from "../kit/command.ts";
import { createStage, eventRecord } from "../kit/consumer.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

interface Scene {
  warehouse: Warehouse;
  /** Stores events with these properties, written as JSON text, by a consumer. */
  store(...properties: string[]): Promise<void>;
  run(...args: string[]): Promise<{ code: number; out: string; err: string }>;
  /** A column of the view `events`, in the order in which the events were stored. */
  column(name: string): Promise<unknown[]>;
}

let scenes = 0;

async function createScene(): Promise<Scene> {
  scenes++;
  const database = `properties_${scenes}`;
  await clickhouse.migrate(database);
  const warehouse = clickhouse.warehouse(database);
  const env = { CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: database };
  let stored = 0;
  return {
    warehouse,
    async store(...properties) {
      await using stage = await createStage(warehouse, { epoch: `e${stored}` });
      stage.start();
      const timeUs = Date.now() * 1000 - 60e6;
      const records = properties.map((propertiesJson, n) => {
        const event = stored + n === 0 ? "first" : "seen";
        return eventRecord({ event, distinctId: "d", timeUs: timeUs + stored + n, propertiesJson });
      });
      stored += properties.length;
      await stage.append(...records);
      await stage.drained();
    },
    run: (...args) => callCommand(main, args, env),
    async column(name) {
      const rows = await warehouse.query<{ v: unknown }>(`SELECT \`${name}\` AS v FROM events ORDER BY timestamp`);
      return rows.map(({ v }) => v);
    },
  };
}

const viewOf = async (warehouse: Warehouse): Promise<string> => {
  const [row] = await warehouse.query<{ as_select: string }>(
    "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = 'events'",
  );
  return row?.as_select ?? "";
};

const propertyOf = (key: string, type: PromotedProperty["type"] = "String"): PromotedProperty => {
  return { key, column: columnNameOf(key), type };
};

const ROWS = [
  '{"plan":"pro","n":1,"x":1.5,"ok":true,"at":"2026-03-27T12:00:00.5Z","$browser":"Firefox"}',
  '{"plan":"free","n":-9007199254740993,"x":2,"ok":false,"at":"2026-03-28","$browser":"Safari"}',
  '{"plan":null,"n":"7","x":"8","ok":"true","at":"12","list":[1,2]}',
  "{}",
];

describe("ls", () => {
  it("lists keys by share, with types, an example and the column", async () => {
    const { store, run } = await createScene();
    await store(...ROWS);
    await run("promote", "plan", "String");
    const { code, out, err } = await run("ls");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out.split("\n")[0]).toBe("all 4 events of the last 7 days");
    expect(out).toMatch(/^"plan" +75\.0 % +null, string +p_plan String +"\w+"$/m);
    expect(out).toMatch(/^"\$browser" +50\.0 % +string +"\w+"$/m);
    expect(out).toMatch(/^"list" +25\.0 % +array +\[1,2\]$/m);
    const limited = JSON.parse((await run("ls", "--json", "--limit", "1")).out);
    expect(limited).toMatchObject({
      total: 4,
      sampled: 4,
      keys: [{ events: 3, share: 0.75, types: expect.any(Array) }],
    });
    const first = JSON.parse((await run("ls", "--json", "--event", "first")).out);
    expect([first.total, first.keys.length]).toEqual([1, 6]);
    expect((await run("ls", "--event", "nobody")).out).toContain('no events "nobody" of the last 7 days');
  });

  it("counts and promotes a key called file, of events called file", async () => {
    const { warehouse, run, column } = await createScene();
    await insertMany(warehouse, 2, `'{"file":"a"}'`, "file");
    const listed = JSON.parse((await run("ls", "--json", "--event", "file")).out);
    expect(listed).toMatchObject({ total: 2, keys: [{ key: "file", events: 2 }] });
    expect(await run("promote", "file")).toMatchObject({ code: 0 });
    expect(await column("p_file")).toEqual(["a", "a"]);
  });

  it("looks at a sample of a large table, and says so", async () => {
    const { warehouse, run } = await createScene();
    await insertMany(warehouse, 250_000, `concat('{"every":1', if(number % 2 = 0, ',"half":"x"}', '}'))`);
    const { total, sampled, keys } = JSON.parse((await run("ls", "--json")).out);
    expect(total).toBe(250_000);
    expect(sampled).toBeGreaterThan(70_000);
    expect(sampled).toBeLessThan(100_000);
    expect(keys.map(({ key }: { key: string }) => key)).toEqual(["every", "half"]);
    expect(keys[0].share).toBe(1);
    expect(Math.abs(keys[1].share - 0.5)).toBeLessThan(0.02);
    expect((await run("ls")).out).toMatch(/^a sample of [\d,]+ of 250,000 events of the last 7 days$/m);
  });
});

/** Rows whose properties are an SQL expression over `number`. */
function insertMany(warehouse: Warehouse, rows: number, properties: string, event = "seen"): Promise<void> {
  return warehouse.command(
    `INSERT INTO events_raw (uuid, event, distinct_id, timestamp, inserted_at, log_time, properties)
     SELECT generateUUIDv4(), '${event}', toString(number % 1000), now64(6), now64(6), now64(3), ${properties} FROM numbers(${rows})`,
  );
}

describe("promote", () => {
  it("guesses the type and shows the values of stored and of new events", async () => {
    const { store, run, column, warehouse } = await createScene();
    await store(...ROWS.slice(0, 2));
    for (const [key, type] of Object.entries({
      plan: "String",
      n: "Int64",
      x: "Float64",
      ok: "Bool",
      at: "DateTime",
    })) {
      const { code, out } = await run("promote", key);
      expect(code, out).toBe(0);
      expect(out).toContain(`"${key}" is ${type}, by 2 events that have it`);
      expect(out).toContain(`now a column: p_${key} ${type}`);
      expect(await fillStateOf(warehouse, `p_${key}`)).toEqual({ filled: 1, parts: 1, failure: "" });
    }
    await store(...ROWS.slice(2));
    expect(await column("p_plan")).toEqual(["pro", "free", null, null]);
    expect(await column("p_n")).toEqual(["1", "-9007199254740993", null, null]);
    expect(await column("p_x")).toEqual([1.5, 2, null, null]);
    expect(await column("p_ok")).toEqual([true, false, null, null]);
    expect(await column("p_at")).toEqual(["2026-03-27 12:00:00.500000", "2026-03-28 00:00:00.000000", null, null]);
  });

  it("does nothing the second time", async () => {
    const { store, run, warehouse } = await createScene();
    await store(...ROWS);
    await run("promote", "plan");
    const [view, mutations] = [await viewOf(warehouse), await mutationsOf(warehouse)];
    const again = await run("promote", "plan");
    expect(again).toEqual({ code: 0, out: expect.stringContaining("already a column: p_plan String"), err: "" });
    expect([await viewOf(warehouse), await mutationsOf(warehouse)]).toEqual([view, mutations]);
  });

  it("keeps taking events whose properties ClickHouse's JSON functions cannot read", async () => {
    const { store, column, warehouse } = await createScene();
    for (const type of ["String", "Int64", "Float64", "Bool", "DateTime"] as const) {
      await promote(warehouse, propertyOf(type, type));
    }
    const odd = [
      "[]",
      "20000000000000000000",
      '{"a":1}',
      '"9999-99-99T99:99:99Z"',
      '"2026-02-30T00:00:00+99:99"',
      '""',
    ];
    await store(
      ...odd.map(
        (value) => `{"String":${value},"Int64":${value},"Float64":${value},"Bool":${value},"DateTime":${value}}`,
      ),
    );
    expect(await column("p_Int64")).toEqual(odd.map(() => null));
    expect(await column("p_Bool")).toEqual(odd.map(() => null));
    expect((await column("p_String"))[0]).toBe("[]");
  });

  it("takes keys with anything in them, and shows them harmlessly", async () => {
    const { store, run, column, warehouse } = await createScene();
    const keys = [
      `it's "a" \`b\` \\ \\'`,
      "a\nb\r\t\u001b[31mred\u202e",
      "x') , (SELECT 1)); DROP TABLE events_raw; -- {key:String} $tag$ /*",
      "größe 価格",
      "k".repeat(1000),
      "💥",
    ];
    const all = (value: string) => JSON.stringify(Object.fromEntries(keys.map((key) => [key, value])));
    await store(all("before"), '{"other":1}');
    for (const key of keys) expect(await run("promote", key)).toMatchObject({ code: 0 });
    await store(all("after"));
    for (const key of keys) expect(await column(columnNameOf(key))).toEqual(["before", null, "after"]);
    expect((await readPromoted(warehouse)).map(({ key }) => key).sort()).toEqual([...keys].sort());
    expect((await run("ls")).out.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    const listed = JSON.parse((await run("ls", "--json")).out) as { keys: { key: string; events: number }[] };
    for (const key of keys) expect(listed.keys).toContainEqual(expect.objectContaining({ key, events: 2 }));
    const [first = "", ...others] = keys;
    expect(await run("demote", first)).toMatchObject({ code: 0 });
    expect(promotedColumnsIn(await viewOf(warehouse)).sort()).toEqual(others.map(columnNameOf).sort());
  });

  it("refuses names that are taken, another type, and what no event has", async () => {
    const { store, run, warehouse } = await createScene();
    await store('{"$browser":"a","browser":"b","hand":1}');
    await run("promote", "$browser");
    const clash = await run("promote", "browser");
    expect(clash).toMatchObject({ code: 1, err: expect.stringContaining('p_browser, which is that of "$browser"') });
    expect((await run("promote", "$browser", "int64")).err).toContain(
      "is promoted as String (p_browser): demote it first",
    );
    await warehouse.command("ALTER TABLE events_raw ADD COLUMN p_hand String");
    expect((await run("promote", "hand")).err).toContain("p_hand that was not made by this command");
    expect(await run("promote", "absent")).toMatchObject({ code: 1, err: expect.stringContaining("name a TYPE") });
    expect(await readPromoted(warehouse)).toEqual([propertyOf("$browser")]);
  });

  it("says what is wrong with its arguments", async () => {
    const { run } = await createScene();
    for (const [args, fault] of [
      [[], "ls, promote or demote?"],
      [["promot"], "Did you mean promote?"],
      [["promote"], "takes a KEY"],
      [["promote", "--days", "3"], "takes a KEY"],
      [["promote", "-k"], "-k: unexpected argument"],
      [["promote", "k", "Strin"], "Did you mean String?"],
      [["promote", "k", "--json"], "--json is not for promote"],
      [["demote", "a", "b"], "one KEY"],
      [["ls", "k"], "ls takes no KEY"],
      [["ls", "--limit", "0"], "--limit"],
    ] as const) {
      expect(await run(...args)).toMatchObject({ code: 2, out: "", err: expect.stringContaining(fault) });
    }
    expect((await run("--help")).out).toContain("millrace properties promote KEY [TYPE]");
  });
});

async function mutationsOf(warehouse: Warehouse): Promise<unknown> {
  return warehouse.query("SELECT mutation_id, command FROM system.mutations WHERE database = currentDatabase()");
}

describe("the view events", () => {
  it("has the promoted columns again after a migration has made it anew", async () => {
    const { warehouse, store, column } = await createScene();
    await store(...ROWS);
    await promote(warehouse, propertyOf("plan"));
    const select = withPromotedColumns(await viewOf(warehouse), []);
    await warehouse.command(`CREATE OR REPLACE VIEW events AS ${select}`);
    expect(promotedColumnsIn(await viewOf(warehouse))).toEqual([]);
    const log = await createSqliteLog({ file: ":memory:" });
    try {
      const { url: clickhouseUrl, user: clickhouseUser, password: clickhousePassword } = clickhouse.connection;
      const names = { clickhouseDatabase: warehouse.database, kafkaPartitions: 1 };
      const config = { clickhouseUrl, clickhouseUser, clickhousePassword, ...names };
      const logger = createLogger({ level: "error", service: "test" });
      await prepareStores({ config, log, warehouse, logger, newEpochs: [] });
    } finally {
      await log[Symbol.asyncDispose]();
    }
    expect(await column("p_plan")).toEqual(["pro", "free", null, null]);
    // Views over it work on.
    await warehouse.query("SELECT * FROM sessions FINAL LIMIT 1");
  });

  it("has both columns when two are promoted at the same time", async () => {
    const { warehouse } = await createScene();
    const keys = ["a", "b", "c", "d"];
    await Promise.all(keys.map((key) => promote(warehouse, propertyOf(key))));
    expect(promotedColumnsIn(await viewOf(warehouse)).sort()).toEqual(keys.map(columnNameOf));
  });
});

describe("a promotion killed half-way", () => {
  it("is completed, and a demotion too, by the next command", async () => {
    const { warehouse, store, column } = await createScene();
    await store(...ROWS);
    const killedAfter = (commands: number): Warehouse => {
      let left = commands;
      const command: Warehouse["command"] = async (...args) => {
        if (left-- <= 0) throw new Error("killed");
        return warehouse.command(...args);
      };
      return { ...warehouse, command };
    };
    const isWhole = async (run: (dying: Warehouse) => Promise<unknown>, after: number) =>
      run(killedAfter(after)).then(
        () => true,
        (error: Error) => {
          expect(error.message).toBe("killed");
          return false;
        },
      );
    let steps = 0;
    for (let whole = false; !whole; steps++) {
      whole = await isWhole((dying) => promote(dying, propertyOf("plan")), steps);
      await applyPromoted(warehouse);
      const recorded = (await readPromoted(warehouse)).length === 1;
      expect(promotedColumnsIn(await viewOf(warehouse))).toEqual(recorded ? ["p_plan"] : []);
      if (recorded) expect(await column("p_plan")).toEqual(["pro", "free", null, null]);
      for (let demoted = false, left = 0; recorded && !demoted; left++) {
        demoted = await isWhole((dying) => demote(dying, "plan"), left);
        await applyPromoted(warehouse);
      }
      expect(promotedColumnsIn(await viewOf(warehouse))).toEqual([]);
      const columns = await warehouse.query(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND name LIKE 'p\\_%'",
      );
      expect(columns).toEqual([]);
    }
    // Table, record, column, view, and the run that nothing ended.
    expect(steps).toBeGreaterThanOrEqual(4);
  });
});

it("docs/schema.md has the columns of the views, in their order", async () => {
  const { warehouse } = await createScene();
  const page = readFileSync(fileURLToPath(new URL("../../docs/schema.md", import.meta.url)), "utf8");
  for (const view of ["events", "persons", "person_distinct_ids", "groups", "sessions"]) {
    const [section = ""] = page.split(`\n## ${view}\n`)[1]?.split("\n## ") ?? [];
    const documented = [...section.matchAll(/^\| `(\w+)` +\| `(.*?)` +\|/gm)].map(([, name, type]) => ({ name, type }));
    const columns = await warehouse.query(
      "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {view:String} ORDER BY position",
      { params: { view } },
    );
    expect(documented, view).toEqual(columns);
  }
});

describe("what it is for", () => {
  it("a query over a promoted column reads a fraction of the bytes", async () => {
    const { warehouse, run } = await createScene();
    const filler = "randomPrintableASCII(400)";
    await insertMany(
      warehouse,
      50_000,
      `concat('{"plan":"', ['free', 'pro', 'team'][number % 3 + 1], '","filler":', toJSONString(${filler}), '}')`,
    );
    const question = (plan: string) =>
      `SELECT ${plan} AS plan, count() AS n FROM events GROUP BY plan ORDER BY plan FORMAT JSON`;
    const before = await readBy(warehouse, question("JSONExtractString(properties, 'plan')"));
    await run("promote", "plan");
    const after = await readBy(warehouse, question("p_plan"));
    expect(after.data).toEqual(before.data);
    expect(after.rows).toBe(before.rows);
    expect(before.bytes).toBeGreaterThan(50_000 * 400);
    expect(after.bytes).toBeLessThan(before.bytes / 8);
  });
});

/** The answer of a query, and what it read. */
async function readBy(warehouse: Warehouse, sql: string): Promise<{ data: unknown; rows: number; bytes: number }> {
  const url = `${clickhouse.url}/?database=${warehouse.database}`;
  const answer = await fetch(url, { method: "POST", body: sql });
  const { data, statistics } = (await answer.json()) as {
    data: unknown;
    statistics: { rows_read: number; bytes_read: number };
  };
  return { data, rows: statistics.rows_read, bytes: statistics.bytes_read };
}
