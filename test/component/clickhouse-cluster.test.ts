// A consumer over two shards, each a real ClickHouse of its own: the cluster's adapter, but for what one server cannot do.
// There is no Keeper here, so that the statement which makes a replica catch up is written down and not sent.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { createClusterWarehouse } from "#lib/warehouse/cluster/cluster.ts";
import { shardOrderFault } from "#lib/warehouse/cluster/shards.ts";
import { shardsOf, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { auditStored, exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, createStage, eventRecord, idOf, poisonRecord, type Stage } from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { closedSocket } from "../kit/safeguards-faults.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";
import { until } from "../kit/until.ts";

interface Sent {
  url: string;
  database: string;
  /** The table of an insert. */
  what: string;
}

let servers: TestClickHouse[];
let cluster: Warehouse;
const sent: Sent[] = [];
/** What goes wrong with calls of a node; an insert has landed by then. */
let fault: (call: Sent, isInsert: boolean) => Error | undefined = () => undefined;
const isSync = (sql: string) => sql.startsWith("SYSTEM SYNC REPLICA");

function openNode(url: string, database: string): Warehouse {
  const inner = createClickHouseWarehouse({ url, database, user: "default", password: "" });
  const noting = async <T>(what: string, act: () => Promise<T>, isInsert = false): Promise<T> => {
    const call = { url, database, what };
    sent.push(call);
    const before = isInsert ? undefined : fault(call, false);
    if (before) throw before;
    const result = await act();
    const after = isInsert ? fault(call, true) : undefined;
    if (after) throw after;
    return result;
  };
  return {
    ...inner,
    query: (sql, options) => noting(sql, () => inner.query(sql, options)),
    command: (sql, options) => noting(sql, async () => (isSync(sql) ? undefined : inner.command(sql, options))),
    insert: (options) => noting(options.table, () => inner.insert(options), true),
    ping: (signal) => noting("ping", () => inner.ping(signal)),
  };
}

const urlOf = (shard: number) => servers[shard]?.url as string;

beforeAll(async () => {
  servers = await Promise.all([startTestClickHouse(), startTestClickHouse()]);
  await Promise.all([servers[0]?.migrate("m"), ...servers.map((server) => server.migrate("m_local"))]);
  const shards = [[urlOf(0)], [urlOf(1)]];
  cluster = createClusterWarehouse({ name: "events", shards }, { url: urlOf(0), database: "m" }, openNode);
});
afterEach(() => {
  sent.length = 0;
  fault = () => undefined;
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
});

/** Keys by the partition they go to. */
async function keysOf(partitions: number): Promise<string[]> {
  const log = createScriptedLog({ partitions });
  await log.createTopics([{ topic: "t", partitions }]);
  const keys: string[] = [];
  for (let n = 0; keys.filter((key) => key !== undefined).length < partitions; n++) {
    const [position] = await log.append("t", [{ key: Buffer.from(`k${n}`), value: Buffer.from("v") }]);
    keys[position?.partition as number] = `k${n}`;
  }
  return keys;
}

/** For each of four partitions: rows, a duplicate and a dead letter. */
async function appendAll(stage: Stage, rows = 25): Promise<void> {
  for (const [partition, key] of (await keysOf(4)).entries()) {
    const records = Array.from({ length: rows }, (_, n) => eventRecord({ key, id: idOf(1000 * partition + n) }));
    await stage.append(...records, ...records.slice(0, 1), { ...poisonRecord, key: Buffer.from(key) });
  }
}

/** The tests' own audit, over what both shards have. */
async function audit({ log, epoch }: Stage) {
  const query: Warehouse["query"] = async <Row>(...args: Parameters<Warehouse["query"]>) =>
    (await Promise.all(shardsOf(cluster).map((shard) => shard.query<Row>(...args)))).flat();
  const ends = new Map((await log.bounds(EVENTS.topic)).map(({ partition, end }) => [partition, end]));
  return auditStored({ ...cluster, query }, epoch, ends);
}

async function partitionsOn(shard: number, table: string, epoch: string): Promise<number[]> {
  const rows = await (shardsOf(cluster)[shard] as Warehouse).query<{ p: number }>(
    `SELECT DISTINCT log_partition AS p FROM ${table} WHERE log_epoch = {epoch:String} ORDER BY p`,
    { params: { epoch } },
  );
  return rows.map(({ p }) => Number(p));
}

const ALL = exactlyOnce({ rows: 100, duplicates: 4, deadLetters: 4 });

describe("a consumer over two shards", () => {
  it("stores rows, outcomes, dead letters and roll-up of partition p on shard p mod 2 and nowhere else", async () => {
    await using stage = await createStage(cluster, { epoch: "placed", partitions: 4, kind: EVENTS });
    await appendAll(stage);
    stage.start();
    await stage.drained();
    expect(await audit(stage)).toMatchObject(ALL);
    for (const table of ["events_raw", "log_outcomes", "dead_letters", "rollup_progress"]) {
      expect(await partitionsOn(0, table, "placed"), table).toEqual([0, 2]);
      expect(await partitionsOn(1, table, "placed"), table).toEqual([1, 3]);
    }
    expect(await shardOrderFault(cluster)).toBeUndefined();
    const shards = shardsOf(cluster).toReversed();
    expect(await shardOrderFault({ ...cluster, cluster: { name: "events", shards } })).toContain(
      "where it does not belong",
    );
    const [elsewhere] = await cluster.query<{ n: string }>("SELECT count() AS n FROM events_raw");
    expect(elsewhere?.n).toBe("0");
  });

  it("asks the partition's shard alone, which has caught up with the table first", async () => {
    await using stage = await createStage(cluster, { epoch: "asked", partitions: 2 });
    const [, key] = await keysOf(2);
    await stage.append(eventRecord({ key: key as string }));
    stage.start();
    await stage.drained();
    const asked = sent.filter(({ what, database }) => database === "m_local" && /FROM events_raw/.test(what));
    expect(new Set(asked.map(({ url }) => url))).toEqual(new Set([urlOf(0), urlOf(1)]));
    for (const one of asked) {
      const before = sent.slice(0, sent.indexOf(one)).filter(({ url }) => url === one.url);
      expect(before.map(({ what }) => what)).toContain("SYSTEM SYNC REPLICA `m_local`.`events_raw` LIGHTWEIGHT");
    }
    expect(sent.filter(({ what }) => what === "events_raw").map(({ url }) => url)).toEqual([urlOf(1)]);
  });

  it("is taken over exactly once, whenever it died, although every third answer is lost", async () => {
    let inserts = 0;
    fault = ({ database }, isInsert) =>
      isInsert && database === "m_local" && ++inserts % 3 === 0 ? closedSocket() : undefined;
    await Promise.all([3, 8, 13, 18, 24].map(takenOver));
  });

  async function takenOver(deathAt: number): Promise<void> {
    const epoch = `death-${deathAt}`;
    await using stage = await createStage(cluster, { epoch, partitions: 4 });
    await appendAll(stage);
    const mortal = createMortal(deathAt);
    const { warehouse, ...rest } = mortal.options;
    const mortalCluster = (inner: Warehouse): Warehouse => ({
      ...warehouse(inner),
      cluster: { name: "events", shards: shardsOf(inner).map(warehouse) },
    });
    stage.start({ ...rest, warehouse: mortalCluster, config: { batchSize: 10 } });
    await mortal.died;
    await stage.log.killConsumer(0);
    stage.start({ config: { batchSize: 7 } });
    await stage.drained();
    expect(await audit(stage), epoch).toMatchObject(ALL);
    expect(await partitionsOn(0, "events_raw", epoch)).toEqual([0, 2]);
    expect(await partitionsOn(1, "events_raw", epoch)).toEqual([1, 3]);
  }

  it("finds an event to be looked up on whichever shard it is", async () => {
    await using stage = await createStage(cluster, { epoch: "flagged", partitions: 2 });
    const [even, odd] = (await keysOf(2)) as [string, string];
    await stage.append(eventRecord({ key: even, id: idOf(77_001) }));
    stage.start();
    await stage.drained();
    await stage.append(eventRecord({ key: odd, id: idOf(77_001), checkStored: true }));
    await stage.drained();
    expect(await audit(stage)).toMatchObject(exactlyOnce({ rows: 1, duplicates: 1 }));
    expect(await partitionsOn(1, "log_outcomes", "flagged")).toEqual([1]);
  });

  it("goes on with the partitions of one shard while the other is away, says so, and catches up", async () => {
    await using stage = await createStage(cluster, { epoch: "away", partitions: 4 });
    fault = ({ url, database }) => (url === urlOf(1) && database === "m_local" ? closedSocket() : undefined);
    const consumer = stage.start();
    await until(
      async () => (await stage.metric(consumer, "millrace_clickhouse_breaker_state")) === 2,
      "the breaker is open",
    );
    await appendAll(stage);
    const committed = async (partition: number) =>
      (await stage.log.committed(EVENTS.topic, EVENTS.group)).get(partition);
    await until(
      async () => (await committed(0))?.offset === 27 && (await committed(2))?.offset === 27,
      "shard 0 is done",
    );
    expect(await committed(1)).toBeUndefined();
    const check = consumer.checks.find(({ name }) => name === "clickhouse");
    await expect(check?.check(AbortSignal.timeout(patience(1000)))).rejects.toThrow("ECONNRESET");
    fault = () => undefined;
    await stage.drained();
    expect(await audit(stage)).toMatchObject(ALL);
  });
});

describe("a shard of two replicas", () => {
  const open = (first: string) => {
    const shards = [[first, urlOf(0)]];
    const whole = createClusterWarehouse({ name: "events", shards }, { url: urlOf(0), database: "m" }, openNode);
    return { whole, shard: shardsOf(whole)[0] as Warehouse };
  };

  it("is spoken to through the other once one is away, and stays there", async () => {
    const dead = "http://127.0.0.1:1";
    const { whole, shard } = open(dead);
    await expect(shard.ping()).rejects.toMatchObject({ kind: "transient" });
    await shard.ping();
    await shard.query("SELECT 1");
    expect(sent.map(({ url }) => url)).toEqual([dead, urlOf(0), urlOf(0)]);
    await whole[Symbol.asyncDispose]();
  });

  it("is not left for a replica's answer, only when that cannot write", async () => {
    const { whole, shard } = open(urlOf(1));
    await expect(shard.query("SELECT nonsense(")).rejects.toMatchObject({ code: 62 });
    await shard.ping();
    fault = () => new WarehouseError("read-only", "transient", 242);
    await expect(shard.ping()).rejects.toMatchObject({ code: 242 });
    fault = () => undefined;
    await shard.ping();
    expect(sent.map(({ url }) => url)).toEqual([urlOf(1), urlOf(1), urlOf(1), urlOf(0)]);
    await whole[Symbol.asyncDispose]();
  });
});
