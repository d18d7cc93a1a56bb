// The warehouse port over the real engine: what is stored, what counts once, and how failures are told apart.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { askPartsShare } from "../../services/consumer/parts.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { patience } from "../kit/patience.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("test");
  warehouse = clickhouse.warehouse("test");
});

afterAll(() => clickhouse[Symbol.asyncDispose]());

const bytes = (...rows: string[]) => Buffer.from(rows.map((row) => `${row}\n`).join(""));

async function createTable(name: string, columns: string, tail = "ORDER BY tuple()") {
  await warehouse.command(
    `CREATE TABLE ${name} (${columns}) ENGINE = MergeTree ${tail} SETTINGS non_replicated_deduplication_window = 100`,
  );
}

describe("insert", () => {
  it("stores rows once for one token and again for another", async () => {
    await createTable("once", "a UInt64");
    const insert = (token: string) =>
      warehouse.insert({ table: "once", columns: ["a"], rows: bytes("[1]", "[2]"), token });
    const count = async () => (await warehouse.query<{ c: string }>("SELECT count() AS c FROM once"))[0]?.c;
    await insert("t1");
    await insert("t1");
    expect(await count()).toBe("2");
    await insert("t2");
    expect(await count()).toBe("4");
  });

  it("counts a replayed insert once in a materialized view", async () => {
    await createTable("viewed", "a UInt64");
    await warehouse.command(
      "CREATE MATERIALIZED VIEW viewed_sum ENGINE = SummingMergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 100 AS SELECT 1 AS k, count() AS n FROM viewed GROUP BY k",
    );
    for (let repeat = 0; repeat < 3; repeat++) {
      await warehouse.insert({ table: "viewed", columns: ["a"], rows: bytes("[1]", "[2]"), token: "t" });
    }
    expect(await warehouse.query("SELECT sum(n) AS n FROM viewed_sum")).toEqual([{ n: "2" }]);
  });

  it("keeps the text of a JSON object in a String column as it was written", async () => {
    const text = '{"a" : 1.0,  "b":"\\u00e9 \\"q\\" \\/","c":[1, {"d":null}],"a":2, "n":12345678901234567890}';
    await createTable("spliced", "id UInt8, properties String");
    const rows = bytes(`[1,${text}]`, "[2,{}]", '[3,"a string"]');
    await warehouse.insert({ table: "spliced", columns: ["id", "properties"], rows, token: "t" });
    const stored = await warehouse.query<{ properties: string }>("SELECT properties FROM spliced ORDER BY id");
    expect(stored.map(({ properties }) => properties)).toEqual([text, "{}", "a string"]);
  });

  it("puts 20,000 event rows into one part", async () => {
    const rows = Array.from(
      { length: 20_000 },
      (_, at) =>
        `["pageview","user_${at % 100}",{"path":"/","pad":"${"x".repeat(250)}"},0,${at},"2026-07-01T12:00:00.000Z"]`,
    );
    const columns = ["event", "distinct_id", "properties", "log_partition", "log_offset", "log_time"];
    await warehouse.insert({ table: "events_raw", columns, rows: bytes(...rows), token: "20k" });
    expect(
      await warehouse.query(
        "SELECT count() AS parts, sum(rows) AS rows FROM system.parts WHERE database = 'test' AND table = 'events_raw' AND active",
      ),
    ).toEqual([{ parts: "1", rows: "20000" }]);
  });

  it("makes parts, which are counted against the number at which ClickHouse slows inserts down", async () => {
    await createTable("pieces", "a UInt64");
    // Nothing is small enough to be merged.
    await warehouse.command("ALTER TABLE pieces MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1");
    const share = (tables: string[]) => askPartsShare({ warehouse, tables }, AbortSignal.timeout(patience(10_000)));
    expect(await share(["pieces"])).toBe(0);
    for (const a of [1, 2])
      await warehouse.insert({ table: "pieces", columns: ["a"], rows: bytes(`[${a}]`), token: `${a}` });
    expect(await share(["pieces", "nothing_in_it"])).toBe(2 / 1000);
    await warehouse.command("ALTER TABLE pieces MODIFY SETTING parts_to_delay_insert = 8");
    expect(await share(["nothing_in_it", "pieces"])).toBe(2 / 8);
  });
});

describe("failures of an insert", () => {
  it.each([
    ["a wrong type", '["x"]', "rejected"],
    ["a broken row", "[1", "rejected"],
    ["too many values", "[1,2]", "rejected"],
  ])("with %s store nothing and are rejected", async (_, row, kind) => {
    await warehouse.command("CREATE TABLE IF NOT EXISTS strict (a UInt64) ENGINE = MergeTree ORDER BY a");
    const rows = bytes("[1]", row);
    await expect(warehouse.insert({ table: "strict", columns: ["a"], rows, token: row })).rejects.toMatchObject({
      kind,
    });
    expect(await warehouse.query("SELECT * FROM strict")).toEqual([]);
  });

  it("over 100 partitions ask for a split", async () => {
    await createTable("parted", "a UInt64", "PARTITION BY a ORDER BY a");
    const rows = bytes(...Array.from({ length: 101 }, (_, at) => `[${at}]`));
    await expect(warehouse.insert({ table: "parted", columns: ["a"], rows, token: "t" })).rejects.toMatchObject({
      kind: "too_many_partitions",
      code: 252,
    });
  });

  it.each([
    ["an unknown table", "nowhere", "a", 60],
    ["an unknown column", "strict", "nothing", 16],
  ])("on %s can be repaired, so they are transient", async (_, table, column, code) => {
    await expect(warehouse.insert({ table, columns: [column], rows: bytes("[1]"), token: "t" })).rejects.toMatchObject({
      kind: "transient",
      code,
    });
  });
});

describe("a server that does not work", () => {
  async function withServer(
    listener: RequestListener,
    test: (unhealthy: Warehouse) => Promise<void>,
    requestTimeoutMs = 5_000,
  ) {
    const server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const unhealthy = createClickHouseWarehouse({
      url,
      user: "default",
      password: "",
      database: "test",
      requestTimeoutMs,
    });
    try {
      await test(unhealthy);
    } finally {
      await unhealthy[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
    }
  }
  const insert = (unhealthy: Warehouse, signal?: AbortSignal) =>
    unhealthy.insert({ table: "t", columns: ["a"], rows: bytes("[1]"), token: "t", signal });

  it.each<[string, RequestListener, object]>([
    ["a proxy's 502", (_, response) => response.writeHead(502).end("<html>"), { kind: "transient", code: undefined }],
    ["a closed socket", (request) => request.socket.destroy(), { kind: "transient", code: undefined }],
    [
      "a 200 with an exception in its header",
      (_, response) =>
        response
          .writeHead(200, { "X-ClickHouse-Exception-Code": "27" })
          .end("Code: 27. DB::Exception: x. (CANNOT_PARSE)"),
      { kind: "rejected", code: 27 },
    ],
    [
      "a 200 with an exception in its body",
      (_, response) => response.end("Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"),
      { kind: "transient", code: 241 },
    ],
  ])("%s is no success", async (_, listener, expected) => {
    await withServer(listener, async (unhealthy) => {
      await expect(insert(unhealthy)).rejects.toMatchObject(expected);
    });
  });

  it("a silent server is a transient error after the timeout, and an abort keeps its reason", async () => {
    await withServer(
      () => undefined,
      async (unhealthy) => {
        await expect(insert(unhealthy)).rejects.toMatchObject({ kind: "transient", message: /100 ms/ });
        const reason = new Error("the assignment was lost");
        const controller = new AbortController();
        const pending = insert(unhealthy, controller.signal);
        controller.abort(reason);
        await expect(pending).rejects.toBe(reason);
      },
      100,
    );
  });

  it("a body that never ends is bounded by the same timeout", async () => {
    await withServer(
      (_, response) => response.writeHead(200).write(" "),
      async (unhealthy) => {
        await expect(insert(unhealthy)).rejects.toMatchObject({ kind: "transient" });
      },
      100,
    );
  });

  it("ping tells a wrong password from a server that is away", async () => {
    await expect(clickhouse.warehouse("nowhere").ping()).rejects.toMatchObject({ code: 81 });
    const away = createClickHouseWarehouse({
      url: "http://127.0.0.1:1",
      user: "default",
      password: "",
      database: "test",
    });
    await expect(away.ping()).rejects.toMatchObject({
      kind: "transient",
      message: expect.stringContaining("ECONNREFUSED"),
    });
    await away[Symbol.asyncDispose]();
  });
});

describe("migrate", () => {
  async function withFiles(files: Record<string, string>, test: (directory: string) => Promise<void>) {
    const directory = await mkdtemp(join(tmpdir(), "millrace-migrations-"));
    try {
      for (const [name, sql] of Object.entries(files)) await writeFile(join(directory, name), sql);
      await test(directory);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  const run = (database: string, directory: string) =>
    migrate({ connection: clickhouse.connection, database, directory });
  const first =
    "CREATE TABLE IF NOT EXISTS {{DATABASE}}.a (s String DEFAULT ';') ENGINE = MergeTree ORDER BY s; -- end;\n";

  it("applies each file once, in order, also when several run at the same time", async () => {
    await withFiles(
      { "0002_b.sql": "ALTER TABLE {{DATABASE}}.a ADD COLUMN IF NOT EXISTS b UInt8;", "0001_a.sql": first },
      async (directory) => {
        const runs = await Promise.all([1, 2, 3].map(() => run("parallel", directory)));
        expect(runs.flatMap(({ applied }) => applied)).toEqual(expect.arrayContaining(["0001_a.sql", "0002_b.sql"]));
        expect(await run("parallel", directory)).toEqual({ applied: [] });
        const rows = await warehouse.query("SELECT filename FROM parallel.schema_migrations FINAL ORDER BY filename");
        expect(rows).toEqual([{ filename: "0001_a.sql" }, { filename: "0002_b.sql" }]);
        expect(
          await warehouse.query("SELECT name FROM system.columns WHERE database = 'parallel' AND table = 'a'"),
        ).toHaveLength(2);
      },
    );
  });

  it("refuses an applied file that has changed, is gone, or was overtaken", async () => {
    await withFiles({ "0002_a.sql": first }, async (directory) => {
      await run("changed", directory);
      await writeFile(join(directory, "0001_late.sql"), first);
      await expect(run("changed", directory)).rejects.toThrow(/0001_late\.sql.*next free number/);
      await rm(join(directory, "0001_late.sql"));
      await writeFile(join(directory, "0002_a.sql"), `${first}-- changed`);
      await expect(run("changed", directory)).rejects.toThrow(/Restore the file/);
      await rm(join(directory, "0002_a.sql"));
      await expect(run("changed", directory)).rejects.toThrow(/older than the database/);
    });
  });

  it("refuses an invalid database name", async () => {
    await withFiles({}, async (directory) => {
      await expect(run("a; DROP DATABASE test", directory)).rejects.toThrow(/CLICKHOUSE_DATABASE/);
    });
  });
});
