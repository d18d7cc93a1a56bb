// Where no password is set, the database of Millrace is read by everybody and changed by its owner alone.
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { ownerHeaders, writeOwnerKey } from "#lib/warehouse/owner-key.ts";
import { type ClickHouseEndpoint, startClickHouse } from "../../services/clickhouse/app.ts";

let dataDir: string;
let endpoint: ClickHouseEndpoint;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace-owned-"));
  const owned = { database: "millrace", key: await writeOwnerKey(dataDir) };
  endpoint = await startClickHouse({ host: "127.0.0.1", port: 0, dataDir, user: "default", password: "", owned });
  await ask("CREATE DATABASE millrace", { headers: ownerHeaders(dataDir, endpoint.url) });
  await ask("CREATE TABLE millrace.t (a UInt8) ENGINE = MergeTree ORDER BY a", {
    headers: ownerHeaders(dataDir, endpoint.url),
  });
  await ask("CREATE TABLE mine (a UInt8) ENGINE = MergeTree ORDER BY a");
});

afterAll(async () => {
  await endpoint[Symbol.asyncDispose]();
  await rm(dataDir, { recursive: true, force: true });
});

async function ask(sql: string, { query, headers }: { query?: object | undefined; headers?: object } = {}) {
  const url = `${endpoint.url}/?${new URLSearchParams({ ...query })}`;
  const answer = await fetch(url, { method: "POST", body: sql, headers: { ...headers } });
  return { status: answer.status, text: await answer.text() };
}

describe("without the key", () => {
  it.each<[string, object?]>([
    ["INSERT INTO millrace.t VALUES (1)"],
    ["INSERT INTO TABLE `millrace`.t FORMAT CSV\n1\n"],
    ["INSERT INTO t VALUES (1)", { database: "millrace" }],
    ["INSERT INTO {d:Identifier}.t VALUES (1)", { param_d: "millrace" }],
    ["ALTER TABLE millrace.t DELETE WHERE a = 1"],
    ["ALTER TABLE mine MOVE PARTITION tuple() TO TABLE millrace.t"],
    ["DELETE FROM millrace.t WHERE a = 1"],
    ["TRUNCATE TABLE millrace.t"],
    ["TRUNCATE DATABASE millrace"],
    ['DROP TABLE "millrace".t'],
    ["DROP DATABASE millrace"],
    ["DETACH TABLE millrace.t"],
    ["RENAME TABLE millrace.t TO gone"],
    ["EXCHANGE TABLES mine AND millrace.t"],
    ["OPTIMIZE TABLE millrace.t FINAL"],
    ["CREATE TABLE millrace.u (a UInt8) ENGINE = Memory"],
    ["CREATE TABLE b ENGINE = Buffer(millrace, t, 1, 1, 1, 1, 1, 1, 1) AS millrace.t"],
    ["CREATE MATERIALIZED VIEW v ENGINE = Memory AS SELECT throwIf(1) FROM millrace.t"],
    ["CREATE MATERIALIZED VIEW v TO millrace.t AS SELECT a FROM mine"],
  ])("%s is refused with the remedy", async (sql, query) => {
    const { status, text } = await ask(sql, { query });
    expect([status, text]).toEqual([403, expect.stringContaining("set CLICKHOUSE_PASSWORD and send it")]);
    expect(text).toContain("Code: 164");
    expect((await ask("SELECT count() FROM millrace.t")).text).toBe("0\n");
  });

  it.each<[string, object?]>([
    ["SELECT count() FROM millrace.t"],
    ["SELECT count() FROM t", { database: "millrace" }],
    ["INSERT INTO mine SELECT a FROM millrace.t"],
    ["INSERT INTO mine (a) VALUES (1)"],
    ["CREATE TABLE copy ENGINE = Memory AS SELECT * FROM millrace.t"],
    ["CREATE VIEW seen AS SELECT * FROM millrace.t"],
    ["DROP VIEW seen"],
    ["CREATE DATABASE other"],
    ["ALTER TABLE mine DELETE WHERE a = 1"],
  ])("%s is run", async (sql, query) => {
    expect(await ask(sql, { query })).toMatchObject({ status: 200 });
  });

  it("a wrong one helps nobody", async () => {
    const refused = await ask("TRUNCATE TABLE millrace.t", { headers: { "x-millrace-owner": "x".repeat(32) } });
    expect(refused.status).toBe(403);
  });
});

describe("the key", () => {
  it("is for those who may read the directory", async () => {
    expect((await stat(join(dataDir, "owner.key"))).mode & 0o777).toBe(0o600);
    expect((await readFile(join(dataDir, "owner.key"), "utf8")).length).toBe(32);
  });

  it("lets a command change tables that names the directory, and no other", async () => {
    const config = {
      ...{ clickhouseUrl: endpoint.url, clickhouseUser: "default", clickhousePassword: "" },
      clickhouseDatabase: "millrace",
    };
    await using stranger = createClickHouseWarehouse(clickhouseOptions({ ...config, dataDir: join(dataDir, "other") }));
    await expect(stranger.command("INSERT INTO t VALUES (1)")).rejects.toThrow("code 164");
    await using owner = createClickHouseWarehouse(clickhouseOptions({ ...config, dataDir }));
    await owner.command("INSERT INTO t VALUES (1)");
    expect(await owner.query("SELECT a FROM t")).toEqual([{ a: 1 }]);
    await owner.command("TRUNCATE TABLE t");
  });

  it.each(["http://clickhouse.example:8123", "http://10.0.0.7:8123"])("is not sent to %s", (url) => {
    expect(ownerHeaders(dataDir, url)).toEqual({});
  });
});
