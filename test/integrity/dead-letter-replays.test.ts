// A replayed letter is one row: replayed twice, at once, from a killed process, months later, or under other values.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import type { AppendRecord, OpenLog } from "#lib/eventlog/log.ts";
import { makeReplay, originOf, type ReplayRecord, readDeadRecord } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRow } from "#lib/ledger/outcome-rows.ts";
import { createPositionNames } from "#lib/ledger/position-name.ts";
import { createLetters } from "#lib/letters/letters.ts";
import { type ReplayCounts, replayLetters } from "#lib/letters/replay.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { parseChanges } from "../../commands/dead-letters/set.ts";
import { POINTS } from "../../services/consumer/kinds.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf, poisonRecord, withInsert } from "../kit/consumer.ts";
import { runDeadLetters, startDeadLetterStage, valuelessRecord } from "../kit/dead-letters.ts";
import { pointRecord } from "../kit/points.ts";
import { spawnMillrace } from "../kit/processes.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse?.[Symbol.asyncDispose]());

async function databaseOf(name: string): Promise<Warehouse> {
  await clickhouse.migrate(name);
  return clickhouse.warehouse(name);
}

/** A replay of all letters with these `--set`, straight onto the log. */
function replay(warehouse: Warehouse, log: OpenLog, ...settings: string[]): Promise<ReplayCounts> {
  return replayTold(warehouse, log, () => {}, ...settings);
}

/** The same, telling why what is not replayed is not. */
function replayTold(
  warehouse: Warehouse,
  log: OpenLog,
  notice: (line: string) => void,
  ...settings: string[]
): Promise<ReplayCounts> {
  const deps = {
    ...{ warehouse, letters: createLetters(warehouse), names: createPositionNames([]) },
    target: {
      append: (records: readonly AppendRecord[], topic: string) => log.append(topic, records),
      [Symbol.asyncDispose]: async () => {},
    },
    ...{ report: () => {}, notice, onProgress: () => {} },
  };
  const options = { filter: {}, changes: parseChanges(settings), limit: Number.MAX_SAFE_INTEGER, dryRun: false };
  return replayLetters(deps, options);
}

const DAY_MS = 86_400_000;

describe("a letter is one row", () => {
  it("of three replays at once under three values, over four partitions and two consumers", async () => {
    const warehouse = await databaseOf("replays_at_once");
    await using stage = await createStage(warehouse, { partitions: 4, epoch: "at-once" });
    const letters = Array.from({ length: 80 }, (_, n) =>
      valuelessRecord(n % 2 === 0 ? { id: idOf(n), key: `k${n}` } : { key: `k${n}` }),
    );
    await stage.append(...letters);
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    const counts = await Promise.all(
      ["a", "b", "c"].map((who) => replay(warehouse, stage.log, "value=1", `distinct_id=${who}`)),
    );
    expect(counts.map(({ replayed }) => replayed)).toEqual([80, 80, 80]);
    const replays = stage.log.appends.flatMap(({ partition, value }) => {
      const origin = originOf(readDeadRecord(value) as EventRecord);
      return origin ? [{ partition, origin }] : [];
    });
    expect(replays.filter(({ partition, origin }) => partition !== origin.partition)).toEqual([]);
    // Batches that hold one replay of some letters and two of others; slow, so that one partition's rows are not there
    // yet when another asks.
    const warehouseIsSlow = withInsert(async (_, insert) => {
      await pause(30);
      await insert();
    });
    const options = { config: { batchSize: 25 }, warehouse: warehouseIsSlow };
    stage.start(options);
    stage.start(options);
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 80, conflicts: 160, deadLetters: 80 }));
    const [ids] = await warehouse.query<{ n: string }>("SELECT uniqExact(uuid) AS n FROM events_raw");
    expect(ids?.n).toBe("80");
  });

  it("months later, with an id of ours or of the caller's, also when it had none that can be stored", async () => {
    const warehouse = await databaseOf("replays_late");
    let now = 1_790_000_000_000;
    await using stage = await createStage(warehouse, { partitions: 2, epoch: "late", now: () => now });
    const short = eventRecord({ event: "short id" });
    // Field 1 with three bytes in the place of sixteen.
    const value = Buffer.concat([Buffer.from([0x0a, 3, 1, 2, 3]), short.value.subarray(18)]);
    await stage.append(valuelessRecord({ id: idOf(1) }), valuelessRecord(), { key: short.key, value }, poisonRecord);
    stage.start();
    await stage.drained();
    const letters = (await Array.fromAsync(createLetters(warehouse).read({}, "oldest"))).flat();
    expect(await replay(warehouse, stage.log, "value=1")).toMatchObject({ replayed: 3, notReplayable: 1 });
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 3, deadLetters: 4 }));

    now += 200 * DAY_MS;
    expect(await replay(warehouse, stage.log, "value=2")).toMatchObject({ replayed: 0, stored: 3, notReplayable: 1 });
    // As if the question had been asked before the first replay was stored.
    const changes = parseChanges(["value=2"]);
    const made = letters.map((letter) => ({ letter, record: makeReplay(letter, changes) }));
    const again = made.filter(
      (each): each is (typeof made)[number] & { record: ReplayRecord } => !("fault" in each.record),
    );
    await stage.append(...again.map(({ letter, record }) => ({ key: letter.key, value: record.value })));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 3, conflicts: 3, deadLetters: 4 }));
  });

  it("when its caller had sent the event again meanwhile, or does so after the replay", async () => {
    const warehouse = await databaseOf("replays_retried");
    await using stage = await createStage(warehouse, { epoch: "retried" });
    await stage.append(
      valuelessRecord({ id: idOf(1) }),
      valuelessRecord({ id: idOf(2) }),
      valuelessRecord({ id: idOf(1) }),
    );
    stage.start();
    await stage.drained();
    await stage.append(eventRecord({ id: idOf(1) }));
    await stage.drained();
    expect(await replay(warehouse, stage.log, "value=1")).toMatchObject({ replayed: 1, stored: 2 });
    await stage.append(eventRecord({ id: idOf(2) }));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2, conflicts: 1, deadLetters: 3 }));
  });
});

describe("a replay", () => {
  it("killed after an append whose answer it never saw, and run again, makes a row of each letter", async () => {
    await using stage = await startDeadLetterStage(clickhouse, "replays_killed");
    stage.startConsumer();
    const propertiesJson = JSON.stringify({ padding: "x".repeat(30_000) });
    await stage.append(...Array.from({ length: 100 }, (_, n) => valuelessRecord({ id: idOf(n), propertiesJson })));
    await stage.stopConsumer();
    const end = await stage.end();
    let requests = 0;
    const killer = createServer(async (request, response) => {
      const body = await buffer(request);
      const headers = { "content-type": "application/json" };
      const answer = await fetch(`${stage.gatewayUrl}${request.url}`, { method: "POST", headers, body });
      const text = await answer.text();
      requests += 1;
      if (requests === 2) process.kill(victim.pid, "SIGKILL");
      else response.writeHead(answer.status, headers).end(text);
    });
    await new Promise<void>((resolve) => killer.listen(0, "127.0.0.1", resolve));
    const { port } = killer.address() as AddressInfo;
    const args = ["dead-letters", "replay", "--set", "value=1"];
    await using victim = spawnMillrace(args, { ...stage.env, MILLRACE_URL: `http://127.0.0.1:${port}` });
    expect(await victim.exited).toBe(null);
    killer.closeAllConnections();
    killer.close();
    const landed = (await stage.end()) - end;
    expect([requests, landed > 0 && landed < 100]).toEqual([2, true]);

    // The consumer has seen none of it yet, so nothing is skipped.
    const { code, stdout } = await runDeadLetters(["replay", "--set", "value=1"], stage.env);
    expect([code, stdout]).toEqual([0, expect.stringContaining("replayed 100, skipped 0")]);
    stage.startConsumer();
    await stage.drained();
    expect(await stage.query("SELECT toString(count()) AS n, toString(uniqExact(uuid)) AS ids FROM events")).toEqual([
      { n: "100", ids: "100" },
    ]);
    expect(await stage.query("SELECT toString(count()) AS n FROM log_outcomes WHERE outcome = 'duplicate'")).toEqual([
      { n: String(landed) },
    ]);
    const shown = await stage.run("show", stage.nameOf(0));
    expect(shown.stdout).toMatch(/now a row\nreplayed: .*, a duplicate of the row\n$/);
  });

  it("whose gateway does not answer says so and claims nothing; the next one finishes", async () => {
    await using stage = await startDeadLetterStage(clickhouse, "replays_away");
    stage.startConsumer();
    await stage.append(valuelessRecord(), valuelessRecord());
    const away = await runDeadLetters(["replay", "--set", "value=1"], {
      ...stage.env,
      MILLRACE_URL: "http://127.0.0.1:1",
    });
    expect(away.code).toBe(1);
    expect(away.stdout).toContain("replayed 0, skipped 0 as stored, 0 not replayable, 2 failed");
    expect(away.stderr).toContain("no answer from the gateway at http://127.0.0.1:1");
    expect((await stage.run("replay", "--set", "value=1")).code).toBe(0);
    await stage.drained();
    expect(await stage.query("SELECT toString(count()) AS n FROM events")).toEqual([{ n: "2" }]);
  });

  it("ends although every letter it replays dies again while it runs", async () => {
    const warehouse = await databaseOf("replays_dying");
    await using stage = await createStage(warehouse, { epoch: "dying" });
    const origin = { epoch: "dying", topic: EVENTS_TOPIC, partition: 0 };
    let stored = 0;
    const store = async (records: readonly AppendRecord[]) => {
      const letters = records.map((record) => {
        stored += 1;
        const placed = { ...record, offset: stored, appendTimeMs: 1_790_000_000_000 + stored };
        return deadLetterRow(origin, placed, "clickhouse_469", "refused");
      });
      const rows = Buffer.concat(letters);
      await warehouse.insert({ table: "dead_letters", columns: DEAD_LETTER_COLUMNS, rows, token: `dying ${stored}` });
    };
    await store(Array.from({ length: 300 }, () => eventRecord()));
    let appended = 0;
    const deadly: OpenLog = {
      ...stage.log,
      async append(topic, records) {
        appended += records.length;
        if (appended > 1000) throw new Error("it does not end");
        await store(records);
        return stage.log.append(topic, records);
      },
    };
    expect(await replay(warehouse, deadly)).toEqual({ replayed: 300, stored: 0, notReplayable: 0, failed: 0 });
    expect([appended, stored]).toEqual([300, 600]);
  });
});

describe("a letter of a point", () => {
  it("is one row of replays at once and later, and the others say what they are duplicates of", async () => {
    const warehouse = await databaseOf("replayed_points");
    await using stage = await createStage(warehouse, { epoch: "points", kind: POINTS });
    await stage.append(pointRecord({ id: idOf(1), value: Number.NaN }), pointRecord());
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    const counts = await Promise.all([2, 3].map((value) => replay(warehouse, stage.log, `value=${value}`)));
    expect(counts.map(({ replayed }) => replayed)).toEqual([1, 1]);
    stage.start();
    await stage.drained();
    expect(await replay(warehouse, stage.log, "value=4")).toMatchObject({ replayed: 0, stored: 1 });
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2, duplicates: 1, deadLetters: 1 }));
    const rows = await warehouse.query(`SELECT log_offset AS o FROM points WHERE uuid = '${idOf(1)}'`);
    expect(rows).toEqual([{ o: "2" }]);
  });

  it.each([
    ["in one batch", 50_000],
    ["in a batch each", 1],
  ])(
    "is one row of replays hours apart while no consumer runs, and of one a month later, %s",
    async (name, batchSize) => {
      const warehouse = await databaseOf(`replayed_apart_${batchSize}`);
      let now = Date.now();
      await using stage = await createStage(warehouse, { epoch: name, kind: POINTS, now: () => now });
      await stage.append(pointRecord({ id: idOf(1), value: Number.NaN }));
      const first = stage.start();
      await stage.drained();
      await first[Symbol.asyncDispose]();
      for (const value of [2, 3]) {
        now += 2 * 3_600_000;
        expect(await replay(warehouse, stage.log, `value=${value}`)).toMatchObject({ replayed: 1 });
      }
      stage.start({ config: { batchSize } });
      await stage.drained();
      expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 1, deadLetters: 1 }));
      now += 30 * DAY_MS;
      // As if it had been asked for before the first one was stored.
      await stage.append(...stage.log.appends.slice(-1));
      await stage.drained();
      expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 2, deadLetters: 1 }));
      const outcomes = "SELECT detail FROM log_outcomes WHERE outcome = 'duplicate' ORDER BY log_offset";
      expect(await warehouse.query(outcomes)).toEqual([{ detail: "0:1" }, { detail: "0:1" }]);
      expect(await warehouse.query("SELECT value FROM points")).toEqual([{ value: 2 }]);
    },
  );

  it("is not replayed when the row of an earlier replay may have expired", async () => {
    const warehouse = await databaseOf("replayed_late");
    const hours = 3_600_000;
    let nowMs = Date.now() - 9 * hours;
    await using stage = await createStage(warehouse, { epoch: "late", kind: POINTS, now: () => nowMs });
    await stage.append(pointRecord({ id: idOf(1), value: Number.NaN }));
    nowMs = Date.now();
    await stage.append(pointRecord({ id: idOf(2), value: Number.NaN }));
    stage.start();
    await stage.drained();
    await warehouse.command("ALTER TABLE points MODIFY TTL stored_at + INTERVAL 8 HOUR");
    const notices: string[] = [];
    const told = (line: string) => void notices.push(line);
    expect(await replayTold(warehouse, stage.log, told, "value=1")).toMatchObject({ replayed: 1, notReplayable: 1 });
    expect(notices).toEqual([expect.stringMatching(/millrace\.points:0:0: the point is older than rows .* kept/)]);
  });
});
