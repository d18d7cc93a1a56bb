// Doctor against a standalone as it runs, and as it runs after somebody has broken it.
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { FROZEN_VERSION } from "#lib/identity/closure.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { diagnose } from "../kit/doctor.ts";
import {
  type RunningStandalone,
  runMillrace,
  samePorts,
  startStandalone,
  temporaryDirectory,
} from "../kit/standalone.ts";

const stack = new AsyncDisposableStack();
const SECRETS = { CLICKHOUSE_PASSWORD: "hunter2", PUBLIC_API_KEYS: "key-one" };
let standalone: RunningStandalone;
let warehouse: Warehouse;
let env: Record<string, string>;

beforeAll(async () => {
  const { path } = stack.use(await temporaryDirectory());
  standalone = stack.use(await startStandalone({ dataDir: path, env: SECRETS }));
  const { url: millrace, statsUrl, clickhouseUrl: url } = standalone;
  env = { DATA_DIR: path, MILLRACE_URL: millrace, STATS_URL: statsUrl, CLICKHOUSE_URL: url, DOCTOR_TIMEOUT: "8s" };
  env = { ...env, CLICKHOUSE_PASSWORD: "hunter2", MILLRACE_API_KEY: "key-one" };
  warehouse = createClickHouseWarehouse({ url, user: "default", password: "hunter2", database: "millrace" });
  stack.use(warehouse);
});
afterAll(() => stack.disposeAsync());

/** What depends on this machine rather than on Millrace. */
const DISKS = ["ClickHouse disks", "data directory"];

describe("a standalone", () => {
  it("that works has nothing to complain of, with a line a check, exit code 0, and the canary's times", async () => {
    const { code, stdout, stderr } = await runMillrace(["doctor"], env);
    const lines = stdout.trimEnd().split("\n");
    expect(stderr).toBe("");
    expect(lines.filter((line) => !line.startsWith("ok ") && !DISKS.some((name) => line.includes(name)))).toEqual([
      lines.at(-1),
    ]);
    expect(lines.at(-1)).toMatch(/^\d\d ok, \d to look at, 0 broken, 0 not checked$/);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok {4}canary sent: .* durable after \d+ ms$/m);
    expect(stdout).toMatch(/^ok {4}canary on the log: millrace.events, partition 0, offset \d+, seen after \d+ ms$/m);
    expect(stdout).toMatch(/^ok {4}canary stored: a row in ClickHouse after \d+ ms$/m);
    expect(stdout).not.toMatch(/hunter2|key-one/);
  });

  it("has the canary as an event of nobody", async () => {
    const { exitCode } = await diagnose(env);
    expect(exitCode).toBe(0);
    const rows = await warehouse.query(
      "SELECT DISTINCT event, distinct_id, source FROM events WHERE source = 'doctor'",
    );
    expect(rows).toEqual([{ event: "$millrace_canary", distinct_id: "", source: "doctor" }]);
    expect(await warehouse.query("SELECT * FROM persons UNION ALL SELECT * FROM persons")).toEqual([]);
    expect(await warehouse.query("SELECT * FROM person_distinct_ids")).toEqual([]);
  });

  it("is left alone with --no-canary", async () => {
    const count = async () => (await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw"))[0]?.n;
    const before = await count();
    const { checks } = await diagnose(env, ["--no-canary"]);
    expect([...checks.keys()].filter((name) => name.includes("canary"))).toEqual([]);
    expect(await count()).toBe(before);
  });
});

describe("wrong credentials", () => {
  it("of the gateway are told from a gateway that is away", async () => {
    const wrong = await diagnose({ ...env, MILLRACE_API_KEY: "other" });
    expect(wrong.exitCode).toBe(1);
    expect(wrong.withStatus("fail")).toEqual(["gateway key", "canary sent"]);
    expect(wrong.checks.get("gateway key")?.fix).toContain("MILLRACE_API_KEY");
    const none = await diagnose({ ...env, MILLRACE_API_KEY: "" }, ["--no-canary"]);
    expect(none.checks.get("gateway key")?.what).toBe("the gateway asks for a key and none is set");
  });

  it("of ClickHouse are told with the settings to correct, and everything that needs it is skipped", async () => {
    const { exitCode, checks, withStatus } = await diagnose({ ...env, CLICKHOUSE_PASSWORD: "other" });
    expect(exitCode).toBe(1);
    expect(withStatus("fail")).toEqual(["ClickHouse"]);
    expect(checks.get("ClickHouse")).toMatchObject({
      what: expect.stringContaining("516"),
      fix: expect.stringContaining("CLICKHOUSE_USER and CLICKHOUSE_PASSWORD"),
    });
    expect(checks.get("canary on the log")?.status).toBe("ok");
    expect(checks.get("canary stored")).toMatchObject({ status: "skip", what: expect.stringContaining("migrations") });
  });

  it("never show", async () => {
    const { checks } = await diagnose({ ...env, MILLRACE_API_KEY: "wrong-key", CLICKHOUSE_PASSWORD: "wrong-word" });
    expect(JSON.stringify([...checks])).not.toMatch(/wrong-|hunter2|key-one/);
  });
});

describe("tables", () => {
  it("that were never made are one for the migrations", async () => {
    const { checks, withStatus } = await diagnose({ ...env, CLICKHOUSE_DATABASE: "elsewhere" }, ["--no-canary"]);
    expect(withStatus("fail")).toEqual(["migrations"]);
    expect(checks.get("migrations")).toMatchObject({
      what: "database elsewhere has no tables of Millrace",
      fix: expect.stringContaining("MIGRATE_ON_START"),
    });
  });

  it("that lack a migration, or have another one of its name, are told by its name", async () => {
    const where = "WHERE filename = '0006_alerts.sql'";
    await warehouse.command(
      `CREATE TABLE kept ENGINE = Memory AS SELECT filename, checksum FROM schema_migrations ${where}`,
    );
    await warehouse.command(`DELETE FROM schema_migrations ${where}`);
    const lacking = await diagnose(env, ["--no-canary"]);
    expect(lacking.checks.get("migrations")).toMatchObject({
      status: "fail",
      what: "not applied to database millrace: 0006_alerts.sql",
    });
    await warehouse.command("INSERT INTO schema_migrations (filename, checksum) SELECT filename, 'other' FROM kept");
    const changed = await diagnose(env, ["--no-canary"]);
    expect(changed.checks.get("migrations")).toMatchObject({
      status: "fail",
      what: "changed since they were applied: 0006_alerts.sql",
    });
    await warehouse.command(`DELETE FROM schema_migrations ${where}`);
    await warehouse.command("INSERT INTO schema_migrations (filename, checksum) SELECT filename, checksum FROM kept");
    await warehouse.command("DROP TABLE kept");
    expect((await diagnose(env, ["--no-canary"])).withStatus("fail")).toEqual([]);
  });

  it("without a dedup window, set to 0 or reset to the server's default, are a failure with the statement to run", async () => {
    for (const change of ["MODIFY SETTING non_replicated_deduplication_window = 0", RESET]) {
      await warehouse.command(`ALTER TABLE events_raw ${change}`);
      const { exitCode, checks, withStatus } = await diagnose(env, ["--no-canary"]);
      expect([exitCode, withStatus("fail")]).toEqual([1, ["insert tokens"]]);
      const { fix = "" } = checks.get("insert tokens") ?? {};
      expect(fix).toBe("ALTER TABLE millrace.events_raw MODIFY SETTING non_replicated_deduplication_window = 10000");
      await warehouse.command(fix);
      expect((await diagnose(env, ["--no-canary"])).exitCode).toBe(0);
    }
  });

  it("that are not synced are a warning, which is no failure", async () => {
    await warehouse.command("ALTER TABLE points MODIFY SETTING fsync_after_insert = 0");
    const { exitCode, checks } = await diagnose(env, ["--no-canary"]);
    expect(exitCode).toBe(0);
    expect(checks.get("fsync")).toMatchObject({
      status: "warn",
      what: expect.stringContaining("off are points.fsync_after_insert"),
    });
    await warehouse.command("ALTER TABLE points MODIFY SETTING fsync_after_insert = 1");
  });

  it("with ids that are linked beyond reason are a warning", async () => {
    await warehouse.command(
      `INSERT INTO person_overrides SELECT generateUUIDv4(), generateUUIDv4(), ${FROZEN_VERSION}`,
    );
    const { checks } = await diagnose(env, ["--no-canary"]);
    expect(checks.get("people")).toMatchObject({
      status: "warn",
      what: expect.stringMatching(/^1 ids, [\w-]{36} among them/),
    });
    await warehouse.command("TRUNCATE TABLE person_overrides");
  });

  it("with a dead letter of the last hour are a warning", async () => {
    await warehouse.command(
      `INSERT INTO dead_letters (log_epoch, log_topic, log_partition, log_offset, log_time, error_class)
       SELECT 'e', 't', 0, n, now() - h * 3600, 'undecodable' FROM values('n UInt64, h UInt8', (1, 0), (2, 0), (3, 2))`,
    );
    const { checks } = await diagnose(env, ["--no-canary"]);
    expect(checks.get("dead letters")).toMatchObject({
      status: "warn",
      what: "arrived in the last hour: 2 undecodable",
      fix: expect.stringContaining("millrace dead-letters ls"),
    });
  });
});

const RESET = "RESET SETTING non_replicated_deduplication_window";

describe("a log", () => {
  it("that is not where it is looked for is told with the setting", async () => {
    const { checks } = await diagnose({ ...env, DATA_DIR: "/nonexistent" }, ["--no-canary"]);
    expect(checks.get("log")).toMatchObject({ status: "fail", fix: expect.stringContaining("check DATA_DIR") });
  });

  it("that was emptied under the tables is told as reset, as the consumer tells it", async () => {
    const ports = samePorts(standalone);
    await standalone.process.stop("SIGTERM");
    const away = await diagnose(env);
    expect(away.withStatus("fail")).toEqual(["gateway", "stats", "ClickHouse"]);
    expect(away.checks.get("gateway")?.fix).toContain("start `millrace start`");

    emptyTopic(join(standalone.dataDir, "log.sqlite"));
    stack.use(await startStandalone({ dataDir: standalone.dataDir, env: { ...SECRETS, ...ports } }));
    const { exitCode, checks } = await diagnose(env, ["--no-canary"]);
    expect(exitCode).toBe(1);
    expect(checks.get(`log of ${EVENTS_TOPIC}`)).toMatchObject({
      status: "fail",
      what: expect.stringMatching(
        /^partition 0: the log ends at offset 0, but offset \d+ of this epoch is stored: the log was reset$/,
      ),
      fix: expect.stringContaining("--new-epoch"),
    });
    expect(checks.get("log of millrace.points")?.status).toBe("ok");
  });
});

function emptyTopic(file: string): void {
  const db = new DatabaseSync(file);
  const { id } = db.prepare("SELECT id FROM topics WHERE topic = ?").get(EVENTS_TOPIC) as { id: number };
  db.exec(`DELETE FROM records_${id}; UPDATE topics SET next_offset = 0 WHERE id = ${id}; DELETE FROM commits;`);
  db.close();
}

it("wrong settings are named, with exit code 2", async () => {
  const { code, stderr } = await runMillrace(["doctor", "--doctor-timeout", "soon"], env);
  expect(code).toBe(2);
  expect(stderr).toContain("--doctor-timeout=soon: expected a duration");
});
