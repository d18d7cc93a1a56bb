// `millrace properties` over two shards, each a real ClickHouse (test/kit/cluster.ts has what stands in for Keeper and
// Distributed tables).
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import { applyPromoted } from "#lib/warehouse/promoted-columns.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/properties/main.ts";
import { startTestCluster, type TestCluster } from "../kit/cluster.ts";

let cluster: TestCluster;
let warehouse: Warehouse;

beforeAll(async () => {
  cluster = await startTestCluster();
  const connection = { url: cluster.urls[0] as string, user: "default", password: "" };
  const options = { ...connection, cluster: { name: "events", shards: cluster.urls.map((url) => [url]) } };
  const directory = fileURLToPath(new URL("../../migrations", import.meta.url));
  await migrate({ connection, cluster: options.cluster, database: "m", directory });
  warehouse = createClickHouseWarehouse({ ...options, database: "m" });
  await store(0, '{"plan":"pro","n":1}', '{"plan":"free","n":2}', '{"n":null}');
  await store(1, '{"plan":"pro","x":1.5,"n":"3"}', '{"x":2,"n":4}');
});
afterAll(async () => {
  await warehouse?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

async function store(shard: number, ...properties: string[]): Promise<void> {
  for (const text of properties) {
    await (shardsOf(warehouse)[shard] as Warehouse).command(
      `INSERT INTO events_raw (uuid, event, timestamp, log_time, log_partition, properties)
       SELECT generateUUIDv4(), 'seen', now64(6) - 60, now64(3), {shard:UInt32}, {text:String}`,
      { params: { shard, text } },
    );
  }
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const terminal = { out: (text: string) => void out.push(text), err: (text: string) => void err.push(text) };
  const code = await main(args, { ...cluster.env, CLICKHOUSE_DATABASE: "m" }, terminal as never);
  return { code, out: out.join(""), err: err.join("") };
}

/** Values on both shards, and whether each node's view has the column. */
async function columnOf(name: string) {
  const values = await Promise.all(
    shardsOf(warehouse).map((shard) =>
      shard.query<{ v: unknown }>(`SELECT ${name} AS v FROM events_raw ORDER BY properties`),
    ),
  );
  const views = await Promise.all(
    cluster.servers.map((server) => server.warehouse("m").query(`SELECT ${name} FROM events LIMIT 0`)),
  );
  return { values: values.map((rows) => rows.map(({ v }) => v)), views: views.length };
}

it("ls adds up what the shards have", async () => {
  const { code, out, err } = await run("ls", "--json");
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const { total, sampled, keys } = JSON.parse(out);
  expect([total, sampled]).toEqual([5, 5]);
  expect(keys).toMatchObject([
    { key: "n", events: 5, types: ["integer", "null", "string"] },
    { key: "plan", events: 3, types: ["string"] },
    { key: "x", events: 2, types: ["integer", "number"], share: 0.4 },
  ]);
  expect(JSON.parse((await run("ls", "--json", "--limit", "1")).out).keys).toHaveLength(1);
});

it("promote guesses from all shards, and makes and fills the column on each of them and on every node", async () => {
  const { code, out } = await run("promote", "x");
  expect(code, out).toBe(0);
  expect(out).toContain('"x" is Float64, by 2 events that have it');
  expect(out).toContain("stored rows have it as well");
  expect(await columnOf("p_x")).toEqual({
    values: [
      [null, null, null],
      [1.5, 2],
    ],
    views: 2,
  });
  expect((await run("promote", "x")).out).toContain("already a column: p_x Float64");
  expect((await run("ls")).out).toMatch(
    /^"x" +40\.0 % +integer, number +p_x Float64 +1\.5$|^"x" +40\.0 % .* p_x Float64 +2$/m,
  );
});

it("what a promotion was killed in, between the shards' tables and the Distributed one, is completed by migrate", async () => {
  await run("promote", "plan", "String");
  await Promise.all(
    cluster.servers.map((server) =>
      server.warehouse("m").command("ALTER TABLE events_raw DROP COLUMN IF EXISTS p_plan"),
    ),
  );
  await applyPromoted(warehouse);
  expect((await columnOf("p_plan")).views).toBe(2);
});

it("a column of one shard that somebody else made is not taken for ours", async () => {
  await (shardsOf(warehouse)[1] as Warehouse).command("ALTER TABLE events_raw ADD COLUMN p_own String");
  expect(await run("promote", "own", "String")).toMatchObject({
    code: 1,
    err: expect.stringContaining("a column p_own that was not made by this command"),
  });
});

it("demote takes the column away everywhere", async () => {
  await run("promote", "n", "Int64");
  expect((await columnOf("p_n")).values).toEqual([
    [null, "2", "1"],
    [null, "4"],
  ]);
  expect(await run("demote", "n")).toMatchObject({ code: 0, out: '"n" has no column any more\n' });
  for (const place of [warehouse, ...shardsOf(warehouse)]) {
    await expect(place.query("SELECT p_n FROM events_raw")).rejects.toMatchObject({ code: 47 });
  }
});
