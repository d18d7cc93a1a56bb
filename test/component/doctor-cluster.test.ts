// Doctor of two shards, each a real ClickHouse (test/kit/cluster.ts has what stands in for Keeper and Distributed
// tables), as they are and after somebody has broken one of them.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { findRow } from "../../commands/doctor/canary.ts";
import { checkSameLog } from "../../commands/doctor/position.ts";
import { HEALTHY_REPLICAS, startTestCluster, type TestCluster } from "../kit/cluster.ts";
import { type Diagnosis, diagnose } from "../kit/doctor.ts";
import { patience } from "../kit/patience.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

let cluster: TestCluster;
let warehouse: Warehouse;
let healthy: Map<string, string>;

beforeAll(async () => {
  cluster = await startTestCluster();
  healthy = new Map(cluster.tables);
  const connection = { url: cluster.urls[0] as string, user: "default", password: "" };
  const options = { ...connection, cluster: { name: "events", shards: cluster.urls.map((url) => [url]) } };
  const directory = fileURLToPath(new URL("../../migrations", import.meta.url));
  await migrate({ connection, cluster: options.cluster, database: "m", directory });
  warehouse = createClickHouseWarehouse({ ...options, database: "m" });
});
afterEach(() => {
  cluster.tables.clear();
  for (const [name, select] of healthy) cluster.tables.set(name, select);
});
afterAll(async () => {
  await warehouse?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

/** No gateway and no log: only what is said of ClickHouse counts. */
function look(env: Record<string, string> = {}): Promise<Diagnosis> {
  const nothing = { DATA_DIR: "/nonexistent", MILLRACE_URL: "http://127.0.0.1:1", STATS_URL: "http://127.0.0.1:1" };
  return diagnose({ ...cluster.env, ...nothing, CLICKHOUSE_DATABASE: "m", DOCTOR_TIMEOUT: "8s", ...env }, [
    "--no-canary",
  ]);
}
const ELSEWHERE = ["gateway", "stats", "log"];
const failing = (diagnosis: Diagnosis) => diagnosis.withStatus("fail").filter((name) => !ELSEWHERE.includes(name));
const warning = (diagnosis: Diagnosis) => diagnosis.withStatus("warn").filter((name) => !name.includes("disks"));
const shard = (number: number) => shardsOf(warehouse)[number - 1] as Warehouse;

describe("doctor of a cluster", () => {
  it("that works has nothing to complain of, and looks at each shard", async () => {
    const diagnosis = await look();
    expect([failing(diagnosis), warning(diagnosis)]).toEqual([[], []]);
    const names = [...diagnosis.checks.keys()];
    for (const n of [1, 2]) {
      const of = names
        .filter((name) => name.endsWith(` of shard ${n}`))
        .map((name) => name.replace(/ of shard \d$/, ""));
      expect(of).toEqual([
        ...[
          "ClickHouse",
          "ClickHouse clock",
          "insert settings",
          "ClickHouse disks",
          "migrations",
          "insert tokens",
          "fsync",
        ],
        ...["account", "replicas", "distributed tables", "dead letters"],
      ]);
      expect(diagnosis.checks.get(`ClickHouse of shard ${n}`)?.what).toContain(cluster.urls[n - 1]);
    }
    expect(diagnosis.checks.get("versions")?.what).toMatch(/^all 2 nodes have \d/);
    expect(diagnosis.checks.get("settings")?.what).toContain("cluster events");
  });

  it("names the shard that is away, and goes on with the other", async () => {
    const shards = `${cluster.urls[0]},http://127.0.0.1:1`;
    const diagnosis = await look({ CLICKHOUSE_SHARD_URLS: shards });
    expect(failing(diagnosis)).toEqual(["order of shards", "ClickHouse of shard 2", "dead letters of shard 2"]);
    expect(diagnosis.checks.get("insert tokens of shard 1")?.status).toBe("ok");
    expect(diagnosis.checks.get("insert tokens of shard 2")?.status).toBe("skip");
  });

  it("names the replica of a shard that is away", async () => {
    const shards = `${cluster.urls[0]}|http://127.0.0.1:1,${cluster.urls[1]}`;
    expect(failing(await look({ CLICKHOUSE_SHARD_URLS: shards }))).toEqual(["ClickHouse of shard 1, replica 2"]);
  });

  it("names the shard whose table remembers no tokens, with the statement that helps", async () => {
    const change = (window: number) => `MODIFY SETTING non_replicated_deduplication_window = ${window}`;
    await shard(2).command(`ALTER TABLE points ${change(0)}`);
    const diagnosis = await look();
    expect(failing(diagnosis)).toEqual(["insert tokens of shard 2"]);
    const { fix = "" } = diagnosis.checks.get("insert tokens of shard 2") ?? {};
    expect(fix).toBe(`ALTER TABLE m_local.points ${change(10_000)}`);
    await shard(2).command(fix);
    expect(failing(await look())).toEqual([]);
  });

  it("names the node that lacks a migration", async () => {
    const [, second] = cluster.servers;
    const node = second?.warehouse("m") as Warehouse;
    await node.command("CREATE TABLE kept ENGINE = Memory AS SELECT * FROM schema_migrations");
    await node.command("DELETE FROM schema_migrations WHERE filename LIKE '0006%'");
    const diagnosis = await look();
    expect(diagnosis.checks.get("migrations of shard 1")?.status).toBe("ok");
    expect(diagnosis.checks.get("migrations of shard 2")?.what).toMatch(/not applied to database m: .*0006_alerts.sql/);
    await node.command("INSERT INTO schema_migrations SELECT * FROM kept WHERE filename LIKE '0006%'");
    await node.command("DROP TABLE kept");
  });

  it.each([
    ["read-only", "0 AS is_readonly", "1 AS is_readonly", "fail", /m\.\w+ is read-only: .* no session with Keeper/],
    ["without its majority", "2 AS active_replicas", "1 AS active_replicas", "fail", /1 of 2 replicas: inserts wait/],
    ["behind", "0 AS absolute_delay", "90 AS absolute_delay", "warn", /is 90 s behind with 0 entries queued/],
  ])("names a replica that is %s", async (_, from, to, status, what) => {
    cluster.tables.set("replicas", HEALTHY_REPLICAS.replace(from, to));
    const diagnosis = await look();
    for (const n of [1, 2]) {
      expect(diagnosis.checks.get(`replicas of shard ${n}`)).toMatchObject({
        status,
        what: expect.stringMatching(what),
      });
    }
  });

  it("tells tables without replicas, and a Distributed table over another cluster", async () => {
    cluster.tables.set("replicas", `${HEALTHY_REPLICAS} AND name != 'alerts'`);
    cluster.tables.set("tables", (healthy.get("tables") as string).replaceAll("'events\\'", "'older\\'"));
    const diagnosis = await look();
    expect(diagnosis.checks.get("replicas of shard 1")?.what).toBe(
      "m.alerts has no replicas: its engine is not a Replicated one",
    );
    expect(failing(diagnosis)).toContain("distributed tables of shard 2");
    expect(diagnosis.checks.get("distributed tables of shard 2")?.what).toContain(
      "m.dead_letters is Distributed('older', 'm_local', 'dead_letters')",
    );
  });

  it.each([
    ["fail", "insert_quorum", "if(name = 'insert_quorum', 1, readonly) AS readonly", "may not set insert_quorum"],
    [
      "warn",
      "skip_unavailable_shards",
      "if(name = 'skip_unavailable_shards', '1', value) AS value",
      "without its rows",
    ],
  ])("gets %s for an account with %s changed", async (status, _, changed, what) => {
    cluster.tables.set("settings", `SELECT * REPLACE (${changed}) FROM system.settings`);
    const { checks } = await look();
    expect(checks.get("account of shard 2")).toMatchObject({ status, what: expect.stringContaining(what) });
  });

  it("tells shards that settings do not name, and nodes with the macros of others", async () => {
    cluster.tables.set("clusters", "SELECT 'events' AS cluster, toUInt32(arrayJoin([1, 2, 3])) AS shard_num");
    cluster.tables.set("macros", (healthy.get("macros") as string).replace("toString({node})", "'one'"));
    const diagnosis = await look();
    expect(failing(diagnosis)).toEqual(["shards", "macros"]);
    expect(diagnosis.checks.get("shards")?.what).toContain("has 3 shards, CLICKHOUSE_SHARD_URLS has 2");
    expect(diagnosis.checks.get("macros")?.what).toBe("shard 1 and shard 2 both have one as macro {shard}");
  });

  it("tells shards in another order by the partitions that they have", async () => {
    await shard(2).command(
      `INSERT INTO rollup_progress (log_epoch, log_topic, log_partition, next_slot, previous_slot)
       SELECT 'e', 't', 1, toDateTime(0), toDateTime(0)`,
    );
    const diagnosis = await look({ CLICKHOUSE_SHARD_URLS: cluster.urls.toReversed().join(",") });
    expect(failing(diagnosis)).toEqual(["order of shards"]);
  });
});

describe("what is stored on the second shard", () => {
  const store = (fields: { uuid: string; epoch: string; offset: number; ms: number }) =>
    shard(2).command(
      `INSERT INTO events_raw (uuid, log_epoch, log_topic, log_partition, log_offset, log_time)
       SELECT {uuid:UUID}, {epoch:String}, 'millrace.events', 1, {offset:UInt64}, fromUnixTimestamp64Milli({ms:Int64})`,
      { params: fields },
    );

  it("is found as the canary's row", async () => {
    const id = randomUUID();
    await store({ uuid: id, epoch: "canary", offset: 0, ms: Date.now() });
    const canary = { id, sentMs: Date.now(), ends: undefined } as never;
    const found = await findRow(warehouse, canary, Promise.resolve(undefined), AbortSignal.timeout(patience(5_000)));
    expect(found).toMatchObject({ status: "ok", value: true });
  });

  it("tells a log that was reset", async () => {
    const log = createScriptedLog({ partitions: 2 });
    await log.createTopics([{ topic: STORED_EVENTS.topic, partitions: 2 }]);
    await store({ uuid: randomUUID(), epoch: "reset", offset: 9, ms: Date.now() });
    const ofEpoch = { ...log, epoch: async () => "reset" };
    const found = await checkSameLog(ofEpoch, warehouse, STORED_EVENTS, AbortSignal.timeout(patience(5_000)));
    expect(found).toMatchObject({
      status: "fail",
      what: "partition 1: the log ends at offset 0, but offset 9 of this epoch is stored: the log was reset",
    });
  });
});
