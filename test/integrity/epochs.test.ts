// Which epoch of a topic counts, when several migrations run at once, and when somebody asks for a new one.
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { currentEpoch, settleEpoch, settlingTogether } from "#lib/ledger/epochs.ts";
import { prepareStores, SameLogError } from "#lib/ledger/prepare-stores.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord } from "../kit/consumer.ts";
import { createScriptedLog, type ScriptedLog } from "../kit/scripted-log.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const logger = pino({ level: "silent" });

function prepare(log: ScriptedLog, warehouse: Warehouse, newEpochs: string[] = []): Promise<void> {
  const [clickhouseUser, clickhousePassword] = ["default", ""];
  const account = { clickhouseUrl: clickhouse.url, clickhouseUser, clickhousePassword };
  const config = { ...account, clickhouseDatabase: warehouse.database, kafkaPartitions: 1 };
  return prepareStores({ config, log, warehouse, logger, newEpochs });
}

describe("four migrations at once", () => {
  it("agree on one epoch a topic, which is the one that counts from the first moment on", async () => {
    await clickhouse.migrate("together");
    const warehouse = clickhouse.warehouse("together");
    const log = createScriptedLog({ partitions: 1 });
    const seen = new Map<string, Set<string>>([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => [topic, new Set()]));
    let isDone = false;
    const looking = (async () => {
      for (let isLast = false; !isLast; ) {
        isLast = isDone;
        for (const [topic, epochs] of seen) {
          const epoch = await currentEpoch(log, warehouse, topic);
          if (epoch !== undefined) epochs.add(epoch);
        }
      }
    })();
    await Promise.all(Array.from({ length: 4 }, () => prepare(log, warehouse)));
    isDone = true;
    await looking;
    for (const [topic, epochs] of seen) expect([topic, epochs.size]).toEqual([topic, 1]);
    const before = await currentEpoch(log, warehouse, EVENTS_TOPIC);
    await prepare(log, warehouse);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe(before);
  });

  it("that ask for a new epoch begin one", async () => {
    await clickhouse.migrate("again");
    const warehouse = clickhouse.warehouse("again");
    const log = createScriptedLog({ partitions: 1 });
    await prepare(log, warehouse);
    const before = await currentEpoch(log, warehouse, EVENTS_TOPIC);
    await Promise.all(Array.from({ length: 4 }, () => prepare(log, warehouse, [EVENTS_TOPIC])));
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).not.toBe(before);
    const [row] = await warehouse.query<{ g: number }>(
      "SELECT max(generation) AS g FROM log_epochs WHERE log_topic = {topic:String}",
      { params: { topic: EVENTS_TOPIC } },
    );
    expect(Number(row?.g)).toBe(2);
  });
});

describe("the epoch of a topic with an id", () => {
  const kind = STORED_EVENTS;
  /** As the migrations before topic ids were kept have left it. */
  const recordOld = (warehouse: Warehouse, epoch: string) =>
    warehouse.insert({
      table: "log_epochs",
      columns: ["log_topic", "log_epoch", "generation"],
      rows: Buffer.from(`${JSON.stringify([EVENTS_TOPIC, epoch, 1])}\n`),
      token: epoch,
    });
  const settled = async (log: ScriptedLog, warehouse: Warehouse) =>
    settleEpoch({ log, warehouse, kind, topicId: await log.topicId(EVENTS_TOPIC), logger });
  const idOf = async (log: ScriptedLog) => (await log.topicId(EVENTS_TOPIC)) as string;

  /** A log of which all is stored under `old`, in a database of its own. */
  async function storedUnder(database: string, count = 3) {
    await clickhouse.migrate(database);
    const warehouse = clickhouse.warehouse(database);
    const stage = await createStage(warehouse, { epoch: "old", givesTopicIds: true });
    await stage.append(...Array.from({ length: count }, () => eventRecord()));
    const consumer = stage.start();
    await stage.drained();
    await consumer[Symbol.asyncDispose]();
    return { warehouse, stage, log: stage.log };
  }

  it("is settled once for all partitions that ask at a time, and anew for those that ask later", async () => {
    const { warehouse, log } = await storedUnder("settled_together");
    await recordOld(warehouse, "old");
    const looks: string[] = [];
    const watched: Warehouse = {
      ...warehouse,
      query(sql, options) {
        looks.push(sql);
        return warehouse.query(sql, options);
      },
    };
    const settle = settlingTogether();
    const question = { log, warehouse: watched, kind, topicId: await idOf(log), logger };
    expect(await Promise.all(Array.from({ length: 6 }, () => settle(question)))).toEqual(Array(6).fill("old"));
    const heads = looks.filter((sql) => sql.includes("events_raw"));
    expect(heads.length).toBe(1);
    const before = looks.length;
    expect(await settle(question)).toBe("old");
    expect(looks.length).toBeGreaterThan(before);
  });

  it("is the id, and another one for a topic that was made again, whoever asks", async () => {
    await clickhouse.migrate("ids");
    const warehouse = clickhouse.warehouse("ids");
    const log = createScriptedLog({ partitions: 1, givesTopicIds: true });
    await Promise.all(Array.from({ length: 4 }, () => prepare(log, warehouse)));
    const first = await idOf(log);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe(first);
    log.wipe(EVENTS_TOPIC);
    const second = await idOf(log);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe(second);
    const asked = await Promise.all(Array.from({ length: 4 }, () => settled(log, warehouse)));
    expect(new Set([...asked, second]).size).toBe(1);
    await prepare(log, warehouse);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe(second);
  });

  it("that was stored before ids were kept stays its epoch, whoever is first and however often it is killed", async () => {
    const { warehouse, log } = await storedUnder("adopted");
    await recordOld(warehouse, "old");
    const dying: Warehouse = { ...warehouse, insert: () => Promise.reject(new Error("killed")) };
    await expect(settled(log, dying)).rejects.toThrow("killed");
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe("old");
    const asked = await Promise.all([settled(log, warehouse), settled(log, warehouse), prepare(log, warehouse)]);
    expect(asked.slice(0, 2)).toEqual(["old", "old"]);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe("old");
    // It is known now which topic that was.
    log.wipe(EVENTS_TOPIC);
    expect(await settled(log, warehouse)).toBe(await idOf(log));
  });

  it("that was stored before ids were kept, and made again since, has the old epoch until a new one is begun", async () => {
    const { warehouse, log } = await storedUnder("unclear");
    await recordOld(warehouse, "old");
    log.wipe(EVENTS_TOPIC);
    expect(await settled(log, warehouse)).toBe("old");
    await prepare(log, warehouse);
    expect(await settled(log, warehouse)).toBe("old");
    await prepare(log, warehouse, [EVENTS_TOPIC]);
    expect(await settled(log, warehouse)).toBe(await idOf(log));
  });

  it("under another id with the records that are stored is the same, as after moving to another cluster", async () => {
    const { warehouse, log } = await storedUnder("moved");
    await recordOld(warehouse, "old");
    expect(await settled(log, warehouse)).toBe("old");
    const moved = { ...log, topicId: async () => "of the other cluster" };
    expect(await settled(moved, warehouse)).toBe("old");
    expect(await currentEpoch(moved, warehouse, EVENTS_TOPIC)).toBe("old");
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe("old");
  });

  it("is the same in a copy that ends before the last stored record, and not doubted while the log does not answer", async () => {
    const { warehouse, log } = await storedUnder("lagging");
    await recordOld(warehouse, "old");
    expect(await settled(log, warehouse)).toBe("old");
    const copy = {
      ...log,
      topicId: async () => "of the copy",
      bounds: async () => [{ partition: 0, start: 0, end: 2 }],
    };
    const silent = { ...copy, tail: async () => [] };
    await expect(settled(silent, warehouse)).rejects.toBeInstanceOf(LogUnavailableError);
    expect(await settled(copy, warehouse)).toBe("old");
  });

  it("that a consumer has found for a topic is not replaced by the migration that has made the topic", async () => {
    await clickhouse.migrate("made");
    const warehouse = clickhouse.warehouse("made");
    await recordOld(warehouse, "old");
    const log = createScriptedLog({ partitions: 1, givesTopicIds: true });
    const createTopics: ScriptedLog["createTopics"] = async (specs) => {
      const made = await log.createTopics(specs);
      await settled(log, warehouse);
      return made;
    };
    await prepare({ ...log, createTopics }, warehouse);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe("old");
  });

  it("is asked for while a partition is halted without looking through what is stored", async () => {
    const { warehouse, stage, log } = await storedUnder("halted");
    await recordOld(warehouse, "old");
    log.wipe(EVENTS_TOPIC);
    let searches = 0;
    const query: Warehouse["query"] = (sql, options) => {
      if (sql.includes("argMax")) searches += 1;
      return warehouse.query(sql, options);
    };
    const consumer = stage.start({
      log: (own) => ({ ...own, epoch: async () => undefined }),
      warehouse: (own) => ({ ...own, query }),
    });
    await until(() => consumer.warnings.some(({ msg }) => msg === "partition halted"), "the partition is halted");
    expect(searches).toBe(1);
    await consumer[Symbol.asyncDispose]();
  });

  it("takes no reading of records for who migrates, whom the brokers' ACLs may not allow it", async () => {
    const { warehouse, log } = await storedUnder("unread");
    await recordOld(warehouse, "old");
    const tail = () => Promise.reject(new LogUnavailableError("grant it Read and Describe"));
    await prepare({ ...log, tail }, warehouse);
    expect(await settled(log, warehouse)).toBe("old");
  });
});

describe("a new epoch", () => {
  it("is refused while the log holds what is stored, and begun when it was made again", async () => {
    await clickhouse.migrate("held");
    const warehouse = clickhouse.warehouse("held");
    const log = createScriptedLog({ partitions: 1 });
    await prepare(log, warehouse);
    const epoch = (await currentEpoch(log, warehouse, EVENTS_TOPIC)) as string;
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(eventRecord(), eventRecord());
    const consumer = stage.start();
    await stage.drained();
    await consumer[Symbol.asyncDispose]();
    await expect(prepare(stage.log, warehouse, [EVENTS_TOPIC])).rejects.toThrow(SameLogError);
    await expect(prepare(stage.log, warehouse, [EVENTS_TOPIC])).rejects.toThrow(/offset 1\b.*--accept-lost/);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).toBe(epoch);
    stage.log.wipe(EVENTS_TOPIC, true);
    await prepare(stage.log, warehouse, [EVENTS_TOPIC]);
    expect(await currentEpoch(log, warehouse, EVENTS_TOPIC)).not.toBe(epoch);
  });
});
