// `millrace verify` over two shards, each a real ClickHouse, filled by a real consumer (test/kit/cluster.ts has what
// stands in for Keeper and Distributed tables).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { slotOf } from "#lib/points/slots.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/verify/main.ts";
import { findingsText } from "../../commands/verify/report.ts";
import { isSound, verifyTopic } from "../../commands/verify/verify.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { startTestCluster, type TestCluster } from "../kit/cluster.ts";
import { createStage, eventRecord, idOf, poisonRecord, type Stage } from "../kit/consumer.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

const directory = fileURLToPath(new URL("../../migrations", import.meta.url));
let cluster: TestCluster;
let warehouse: Warehouse;

beforeAll(async () => {
  cluster = await startTestCluster();
  warehouse = await openDatabase("m");
});
afterAll(async () => {
  await warehouse?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

async function openDatabase(database: string, shards = cluster.urls.map((url) => [url])): Promise<Warehouse> {
  const connection = { url: cluster.urls[0] as string, user: "default", password: "" };
  const options = { ...connection, cluster: { name: "events", shards } };
  await migrate({ connection, cluster: options.cluster, database, directory });
  return createClickHouseWarehouse({ ...options, database });
}

/** A key for each partition. */
async function keysOf(partitions: number): Promise<string[]> {
  const log = createScriptedLog({ partitions });
  await log.createTopics([{ topic: "t", partitions }]);
  const keys = new Map<number, string>();
  for (let n = 0; keys.size < partitions; n++) {
    const [position] = await log.append("t", [{ key: Buffer.from(`k${n}`), value: Buffer.from("v") }]);
    keys.set(position?.partition as number, `k${n}`);
  }
  return Array.from({ length: partitions }, (_, partition) => keys.get(partition) as string);
}

const NOW_MS = slotOf(Date.now()) - 600_000;
/** So that no stage has an event of another one. */
let stages = 0;

/** Four partitions of five rows with values, a duplicate and a dead letter; partition 3 also says who is who. */
async function filled(epoch: string): Promise<Stage> {
  const stage = await createStage(warehouse, { epoch, partitions: 4, kind: EVENTS, now: () => NOW_MS });
  const keys = await keysOf(4);
  stages++;
  for (const [partition, key] of keys.entries()) {
    const sold = (n: number) => ({
      key,
      id: idOf(10_000 * stages + 1000 * partition + n),
      event: "sold",
      value: n,
      source: epoch,
    });
    const records = Array.from({ length: 5 }, (_, n) => eventRecord(sold(n)));
    await stage.append(...records, ...records.slice(0, 1), { ...poisonRecord, key: Buffer.from(key) });
  }
  const properties = { $anon_distinct_id: `${epoch}-anon`, $set: { plan: "pro" } };
  const [said, propertiesJson] = [{ key: keys[3] as string, event: "$identify" }, JSON.stringify(properties)];
  await stage.append(eventRecord({ ...said, distinctId: `${epoch}-user`, propertiesJson }));
  stage.start();
  await stage.drained();
  return stage;
}

function verify(stage: Stage, isRepairing = false, over = warehouse) {
  const log = { ...stage.log, epoch: async () => stage.epoch };
  return verifyTopic({ log, warehouse: over, kind: STORED_EVENTS }, isRepairing);
}

/** Rows, outcomes and letters by shard. */
async function storedOf(epoch: string) {
  const ask = (table: string) =>
    shardsOf(warehouse).map((shard) =>
      shard.query(`SELECT * FROM ${table} WHERE log_epoch = {epoch:String} ORDER BY log_partition, log_offset`, {
        params: { epoch },
      }),
    );
  return Promise.all(["events_raw", "log_outcomes", "dead_letters"].flatMap(ask));
}

async function remove(shard: number, table: string, where: string): Promise<void> {
  await (shardsOf(warehouse)[shard] as Warehouse).command(`DELETE FROM ${table} WHERE ${where}`);
}

describe("verify over two shards", () => {
  it("accounts for every partition on its shard, and says which ids it did not compare", async () => {
    await using stage = await filled("whole");
    const finding = await verify(stage);
    const each = { from: 0, rows: 5, duplicates: 1, deadLetters: 1, missing: { count: 0 }, doubled: { count: 0 } };
    expect(finding.audit.partitions).toMatchObject([each, each, each, { ...each, to: 8, rows: 6 }]);
    expect(isSound(finding)).toBe(true);
    expect(findingsText([finding])).toContain("not covered: an id that is a row on two shards");
    expect(findingsText([finding])).toMatch(/verify: 29 offsets accounted for, 0 missing, 0 doubled\n$/);
  });

  it("names what either shard has lost, and brings it back to that shard as it was", async () => {
    await using stage = await filled("lost");
    const before = await storedOf("lost");
    expect(before.map((rows) => rows.length)).toEqual([10, 11, 4, 4, 2, 2]);
    await remove(0, "events_raw", "log_epoch = 'lost' AND log_partition = 2 AND log_offset IN (1, 2)");
    await remove(1, "events_raw", "log_epoch = 'lost' AND log_partition = 3");
    await remove(1, "log_outcomes", "log_epoch = 'lost'");
    await remove(1, "dead_letters", "log_epoch = 'lost' AND log_partition = 1");
    for (const table of ["identity_edges", "identity_ids", "identity_properties"]) {
      await warehouse.command(`TRUNCATE TABLE ${table}`);
    }
    const text = findingsText([await verify(stage)]);
    expect(text).toContain("missing: partition 1, offsets 5 to 6\n");
    expect(text).toContain("missing: partition 2, offsets 1 to 2\n");
    expect(text).toContain("missing: partition 3, offsets 0 to 7\n");
    expect(text).toContain("17 offsets accounted for, 12 missing");

    const repaired = await verify(stage, true);
    expect(repaired.repair).toEqual({ repaired: 12, lost: [] });
    expect(isSound(repaired)).toBe(true);
    expect(await storedOf("lost")).toEqual(before);
    const known = await warehouse.query("SELECT DISTINCT toString(own_person_id) AS id FROM identity_ids ORDER BY id");
    expect(known).toEqual([personIdOf("lost-anon"), personIdOf("lost-user")].sort().map((id) => ({ id })));
  });

  it("finds an offset that is stored twice, and a slot of the roll-up that is wrong, on the second shard", async () => {
    const stage = await filled("wrong");
    // The roll-up would be put right by the consumer.
    await stage[Symbol.asyncDispose]();
    const shard = shardsOf(warehouse)[1] as Warehouse;
    await shard.command(
      `INSERT INTO rollup_progress (log_epoch, log_topic, log_partition, next_slot, previous_slot)
       SELECT 'wrong', '${EVENTS.topic}', 3, toDateTime(4000000000), toDateTime(0)`,
    );
    await remove(1, "points_5m", "log_epoch = 'wrong' AND log_partition = 3");
    expect(findingsText([await verify(stage)])).toContain("roll-up: partition 3, slot");
    expect(await verify(stage, true)).toMatchObject({ recomputed: 1, rollup: { differing: [] } });
    const rolled = "SELECT count, sum FROM points_5m FINAL WHERE log_epoch = 'wrong' AND log_partition = 3";
    expect(await shard.query(rolled)).toEqual([{ count: "5", sum: 10 }]);
    await shard.command(
      "INSERT INTO events_raw SELECT * FROM events_raw WHERE log_epoch = 'wrong' AND log_partition = 1 AND log_offset = 4",
    );
    const doubled = { count: 1, examples: [{ offset: 4, kinds: ["row", "row"] }] };
    expect((await verify(stage)).audit.partitions[1]?.doubled).toEqual(doubled);
  });

  it("takes an id that is a row on the other shard for a duplicate when its record comes back", async () => {
    const [even, odd] = (await keysOf(2)) as [string, string];
    await using stage = await createStage(warehouse, { epoch: "across", partitions: 2 });
    await stage.append(eventRecord({ key: even, id: idOf(77_001) }));
    stage.start();
    await stage.drained();
    await stage.append(eventRecord({ key: odd, id: idOf(77_001), checkStored: true }));
    await stage.drained();
    const before = await storedOf("across");
    await remove(1, "log_outcomes", "log_epoch = 'across'");
    expect(await verify(stage, true)).toMatchObject({ repair: { repaired: 1 }, audit: { duplicateIds: { count: 0 } } });
    expect(await storedOf("across")).toEqual(before);
  });

  it("claims and changes nothing when the shards are named in another order, or not all of them", async () => {
    await using stage = await filled("order");
    const [first, second] = cluster.urls as [string, string];
    const before = await storedOf("order");
    const openShards = (shards: string[][]) =>
      createClickHouseWarehouse({
        ...{ url: first, user: "default", password: "", database: "m" },
        cluster: { name: "events", shards },
      });
    const swapped = openShards([[second], [first]]);
    await expect(verify(stage, true, swapped)).rejects.toThrow("where it does not belong");
    const one = openShards([[first]]);
    await expect(verify(stage, true, one)).rejects.toThrow("has 2 shards, CLICKHOUSE_SHARD_URLS has 1");
    expect(await storedOf("order")).toEqual(before);
    await Promise.all([swapped[Symbol.asyncDispose](), one[Symbol.asyncDispose]()]);
  });

  it("does not pass over rows of a partition that are on the other shard", async () => {
    await using stage = await filled("astray");
    await (shardsOf(warehouse)[1] as Warehouse).command(
      `INSERT INTO log_outcomes (log_epoch, log_topic, log_partition, log_offset, outcome, log_time)
       SELECT 'astray', '${EVENTS.topic}', 2, 0, 'duplicate', now64(3)`,
    );
    await expect(verify(stage, true)).rejects.toThrow(
      `partition 2 of ${EVENTS.topic} is stored on shard 2, and belongs on shard 1 of 2`,
    );
  });
});

it("the command audits and repairs a cluster by its settings", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-verify-cluster-"));
  const over = await openDatabase("commanded");
  const log = await createSqliteLog({ file: join(dataDir, "log.sqlite") });
  try {
    await log.createTopics([EVENTS.topic, POINTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
    await log.append(EVENTS.topic, [eventRecord({ id: idOf(1) })]);
    const said: string[] = [];
    const terminal = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text) };
    const env = { ...cluster.env, CLICKHOUSE_DATABASE: "commanded", DATA_DIR: dataDir };
    const progress = JSON.stringify([await log.epoch(), EVENTS.topic, 0, 1]);
    const columns = ["log_epoch", "log_topic", "log_partition", "next_offset"];
    await over.insert({ table: "log_progress", columns, rows: Buffer.from(`${progress}\n`), token: "noted" });
    expect(await main([], env, terminal as never)).toBe(1);
    expect(said.join("")).toContain("missing: partition 0, offset 0\n");
    expect(await main(["--repair"], env, terminal as never)).toBe(0);
    const [shard] = shardsOf(over) as [Warehouse];
    expect(await shard.query("SELECT uuid FROM events_raw")).toEqual([{ uuid: idOf(1) }]);
  } finally {
    await Promise.all([log[Symbol.asyncDispose](), over[Symbol.asyncDispose]()]);
    await rm(dataDir, { recursive: true, force: true });
  }
});
