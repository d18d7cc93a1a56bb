import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AppendRecord, OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { parseUuid, personIdOf } from "#lib/events/ids.ts";
import { decodeRecord, encodeRecordPlain, PoisonRecordError } from "#lib/events/record.ts";
import { createEventRows, EVENT_COLUMNS } from "#lib/events/row.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { createHourKeeper } from "#lib/ledger/hours.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/verify/main.ts";
import { createStoredLog } from "../../commands/verify/stored.ts";
import { isSound, verifyTopic } from "../../commands/verify/verify.ts";
import { backdate } from "../kit/backdate.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { type Answered, callCommand } from "../kit/command.ts";
import { recordOf } from "../kit/identity.ts";
import { runMillrace } from "../kit/standalone.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("verify");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** Id of the event that is made for an offset. */
function idOf(offset: number): string {
  return `00000000-0000-4000-8000-${String(offset).padStart(12, "0")}`;
}

interface Flags {
  idFromCaller: boolean;
  checkStored: boolean;
}

const CALLERS: Flags = { idFromCaller: true, checkStored: false };

function record(id: string, offset: number, { idFromCaller, checkStored } = CALLERS): AppendRecord {
  const text = { source: "", originalTime: "", apiKey: "k", ip: "", userAgent: "", sessionId: "", windowId: "" };
  const more = { elementsChain: "", currentUrl: "", host: "", anonDistinctId: "", deviceId: "" };
  const value = encodeRecordPlain({
    ...{
      ...text,
      ...more,
      id: parseUuid(id) ?? new Uint8Array(),
      idFromCaller,
      event: "seen",
      distinctId: `d${offset}`,
    },
    ...{ value: offset, timeUs: 1e15 + offset, receivedUs: 1e15, checkStored },
    propertiesJson: JSON.stringify({ n: offset, text: 'a "quoted" é' }),
  });
  return { key: Buffer.from(`d${offset}`), value };
}

const identified = recordOf({
  ...{ event: "$identify", distinctId: "u", id: idOf(2) },
  properties: { $anon_distinct_id: "x", $set: { plan: "pro" } },
});
const poison: AppendRecord = { key: Buffer.from("p"), value: Buffer.from("no event record") };

interface System extends AsyncDisposable {
  log: OpenLog;
  warehouse: Warehouse;
  epoch: string;
  /** `millrace verify` while the log is open for writing. */
  verify(...args: string[]): Promise<Answered>;
  /** The same in a process of its own. */
  verifyApart(...args: string[]): Promise<Answered>;
  /** Takes stored rows or outcomes away, as a broken disk or a person would. */
  remove(table: string, where: string): Promise<void>;
  /** Stores rows again under other values. */
  copy(where: string, values: Record<string, string>): Promise<void>;
  select(sql: string): Promise<Record<string, unknown>[]>;
}

interface SystemOptions {
  /** How long ago an offset came, when that is not now. */
  agoMs?: (offset: number) => number;
  database?: string;
}

/** A log with these records, all of them stored and committed as the consumer does it. */
async function startSystem(records: readonly AppendRecord[], options: SystemOptions = {}): Promise<System> {
  const { agoMs, database = "verify" } = options;
  await clickhouse.empty(database);
  const warehouse = clickhouse.warehouse(database);
  const directory = await mkdtemp(join(tmpdir(), "millrace-verify-"));
  const file = join(directory, "log.sqlite");
  let log = await createSqliteLog({ file });
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  await log.append(EVENTS_TOPIC, records);
  if (agoMs) {
    await log[Symbol.asyncDispose]();
    backdate(file, agoMs);
    log = await createSqliteLog({ file });
  }
  const epoch = (await log.epoch()) ?? "";
  await store(log, warehouse, epoch);
  await commit(log, records.length);
  const env = { DATA_DIR: directory, CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: database };
  return {
    log,
    warehouse,
    epoch,
    verify: (...args) => callCommand(main, args, env),
    async verifyApart(...args) {
      const { code, stdout, stderr } = await runMillrace(["verify", ...args], env);
      return { code: code ?? -1, out: stdout, err: stderr };
    },
    remove: (table, where) =>
      warehouse.command(`ALTER TABLE ${table} DELETE WHERE ${where} SETTINGS mutations_sync = 2`),
    copy(where, values) {
      const columns = EVENT_COLUMNS.map((name) => values[name] ?? name).join(", ");
      return warehouse.command(
        `INSERT INTO events_raw (${EVENT_COLUMNS.join(", ")}) SELECT ${columns} FROM events_raw WHERE ${where}`,
      );
    },
    select: (sql) => warehouse.query(sql),
    async [Symbol.asyncDispose]() {
      await log[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
async function store(log: OpenLog, warehouse: Warehouse, epoch: string, from = 0): Promise<void> {
  const rows = createEventRows({ epoch, topic: EVENTS_TOPIC, partition: 0 });
  const lines: Buffer[] = [];
  const outcomes: string[] = [];
  const letters: string[] = [];
  /** What the first record of an id says. */
  const seen = new Map<string, string>();
  const stored = await log.tail(EVENTS_TOPIC, 0, { from, maxRecords: 10_000, maxBytes: 1e9, maxWaitMs: 0 });
  for (const { offset, appendTimeMs, value } of stored) {
    const place = [epoch, EVENTS_TOPIC, 0, offset, new Date(appendTimeMs).toISOString()];
    try {
      const event = decodeRecord(value);
      const id = Buffer.from(event.id).toString("hex");
      const said = `${event.distinctId} ${event.propertiesJson}`;
      const first = seen.get(id);
      if (first !== undefined) {
        outcomes.push(JSON.stringify([...place, first === said ? "duplicate" : "conflict", ""]));
        continue;
      }
      lines.push(Buffer.from(rows.row(event, offset, appendTimeMs)));
      seen.set(id, said);
    } catch (error) {
      if (!(error instanceof PoisonRecordError)) throw error;
      outcomes.push(JSON.stringify([...place, "dead_letter", "undecodable"]));
      letters.push(JSON.stringify([...place, "undecodable", error.message, "", Buffer.from(value).toString("base64")]));
    }
  }
  const place = ["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"];
  const token = `${epoch}:${EVENTS_TOPIC}:0:${from}-${from + stored.length - 1}`;
  await createHourKeeper(warehouse, { epoch, topic: EVENTS_TOPIC, partition: 0 }).note(stored);
  const insert = (table: string, columns: readonly string[], texts: readonly string[]) =>
    texts.length > 0 && warehouse.insert({ table, columns, rows: Buffer.from(`${texts.join("\n")}\n`), token });
  await warehouse.insert({ table: "events_raw", columns: EVENT_COLUMNS, rows: Buffer.concat(lines), token });
  await insert("log_outcomes", [...place, "outcome", "detail"], outcomes);
  await insert("dead_letters", [...place, "error_class", "error", "key_base64", "value_base64"], letters);
}

async function commit(log: OpenLog, offset: number, metadata = ""): Promise<void> {
  const done = new AbortController();
  await log.consume({
    topic: EVENTS_TOPIC,
    group: CONSUMER_GROUP,
    signal: done.signal,
    async onAssigned(assignment) {
      await assignment.commit({ offset, metadata });
      done.abort();
    },
  });
}

const hundred = Array.from({ length: 100 }, (_, offset) => record(idOf(offset), offset));

describe("a log that is accounted for", () => {
  it("ends with 0 and says so", async () => {
    await using system = await startSystem(hundred);
    const { code, out, err } = await system.verifyApart();
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/verify: 100 offsets accounted for, 0 missing, 0 doubled\n$/);
    expect(out).toContain(system.epoch);
  });

  it("counts dead letters, duplicates and conflicts as accounted for", async () => {
    await using system = await startSystem([...hundred.slice(0, 5), poison, record(idOf(3), 3), record(idOf(4), 7)]);
    const { code, out } = await system.verify("--json");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      clean: true,
      totals: { accounted: 8, missing: 0, doubled: 0 },
      topics: [{ partitions: [{ from: 0, to: 8, rows: 5, duplicates: 1, conflicts: 1, deadLetters: 1, erased: 0 }] }],
    });
  });

  it("says how much is not stored yet, and for how long, and ends with 3, or with 0 when that is allowed", async () => {
    await using system = await startSystem(hundred);
    await system.log.append(EVENTS_TOPIC, [record(idOf(100), 100), record(idOf(101), 101)]);
    const closing =
      /verify: 100 offsets accounted for, 0 missing, 0 doubled, 2 not stored yet \(the oldest since \d+ s\)\n$/;
    expect(await system.verify()).toMatchObject({ code: 3, out: expect.stringMatching(closing) });
    const { code, out } = await system.verify("--allow-lag", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      ...{ clean: true, proven: false },
      totals: { accounted: 100, notStored: 2, oldestNotStoredSeconds: expect.any(Number) },
      topics: [{ partitions: [{ notStored: { count: 2, oldestMs: expect.any(Number) } }] }],
    });
    // What is missing counts for more.
    await system.remove("events_raw", "log_offset = 7");
    expect(await system.verify("--allow-lag")).toMatchObject({ code: 1, out: expect.stringContaining("1 missing") });
  });

  it("waits for what was on the log when it was asked, and for nothing that comes later", async () => {
    await using system = await startSystem(hundred);
    await system.log.append(EVENTS_TOPIC, [record(idOf(100), 100)]);
    const verifying = system.verify("--wait", "60s");
    await store(system.log, system.warehouse, system.epoch, 100);
    await commit(system.log, 101);
    // Looked at once the program is up, or before: either way it is committed in time.
    expect(await verifying).toMatchObject({
      code: 0,
      out: expect.stringMatching(/verify: 101 offsets .* 0 doubled\n$/),
    });
    await system.log.append(EVENTS_TOPIC, [record(idOf(101), 101)]);
    expect((await system.verify("--wait", "100ms")).code).toBe(3);
  });

  it("claims nothing for a commit that was made for another log of the topic's name, and repairs nothing", async () => {
    await using system = await startSystem(hundred.slice(0, 3));
    await commit(system.log, 3, JSON.stringify({ epoch: "another" }));
    await system.remove("events_raw", "1");
    expect(await system.verify("--repair")).toMatchObject({
      code: 3,
      out: expect.stringMatching(/verify: 0 offsets .* 3 not stored yet/),
    });
    expect(await system.select("SELECT log_offset FROM events_raw")).toEqual([]);
  });

  it("with nothing stored of it is clean, and says how much waits", async () => {
    await using system = await startSystem(hundred.slice(0, 1));
    await commit(system.log, 0);
    await system.remove("events_raw", "1");
    expect(await system.verify()).toMatchObject({
      code: 3,
      out: expect.stringMatching(/verify: 0 offsets .* 1 not stored yet/),
    });
  });
});

describe("a lost row", () => {
  it("is named, and comes back as it was, however often it is lost", async () => {
    await using system = await startSystem(hundred);
    const everything = "SELECT * FROM events_raw ORDER BY log_offset";
    const before = await system.select(everything);
    for (let round = 1; round <= 2; round += 1) {
      await system.remove("events_raw", "log_offset = 57");
      const found = await system.verify();
      expect(found.code).toBe(1);
      expect(found.out).toContain("missing: partition 0, offset 57\n");
      expect(found.out).toContain("verify: 99 offsets accounted for, 1 missing, 0 doubled");
      const repaired = await system.verify("--repair");
      expect(repaired.code).toBe(0);
      expect(repaired.out).toContain("repaired 1 offsets");
      expect(await system.select(everything)).toEqual(before);
    }
    expect((await system.verify("--repair")).out).not.toContain("repaired");
  });

  it("is found at the head, in the middle and at the tail", async () => {
    await using system = await startSystem(hundred);
    await system.remove("events_raw", "log_offset < 5 OR log_offset IN (50, 51, 53) OR log_offset >= 97");
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    for (const range of ["offsets 0 to 4", "offsets 50 to 51", "offset 53", "offsets 97 to 99"]) {
      expect(out).toContain(`missing: partition 0, ${range}\n`);
    }
    expect(out).toContain("89 offsets accounted for, 11 missing");
    expect((await system.verify("--repair")).code).toBe(0);
  });

  it("is stored once by four repairs at the same time", async () => {
    await using system = await startSystem(hundred);
    // Of four processes, and of four commands in one.
    for (const repair of [system.verifyApart, system.verify]) {
      await system.remove("events_raw", "log_offset BETWEEN 20 AND 60");
      const codes = await Promise.all([1, 2, 3, 4].map(async () => (await repair("--repair")).code));
      expect(codes).toEqual([0, 0, 0, 0]);
      expect(await system.verify()).toMatchObject({ code: 0, out: expect.stringContaining("verify: 100 offsets") });
    }
  });

  it("that was the only one is found", async () => {
    await using system = await startSystem(hundred.slice(0, 1));
    await system.remove("events_raw", "1");
    expect(await system.verify()).toMatchObject({
      code: 1,
      out: expect.stringContaining("missing: partition 0, offset 0"),
    });
  });

  it("that the log has no longer stays missing and is named", async () => {
    await using system = await startSystem(hundred);
    await system.remove("events_raw", "log_offset IN (5, 70)");
    await system.log.trim(EVENTS_TOPIC, 0, 50);
    const { code, out } = await system.verify("--repair");
    expect(code).toBe(1);
    expect(out).toContain("not repaired: partition 0, offset 5: no longer on the log");
    expect(out).toContain("repaired 1 offsets");
    expect(out).toContain("1 missing");
  });

  it("of before consumers noted what they are given, and no longer on the log, is not claimed, which is said", async () => {
    await using system = await startSystem(hundred);
    await system.remove("events_raw", "log_offset < 10");
    await system.remove("log_hours", "1");
    await system.log.trim(EVENTS_TOPIC, 0, 50);
    const { code, out } = await system.verify();
    expect(code).toBe(0);
    expect(out).toContain("not covered: partition 0, offsets 0 to 9");
    expect(out).toContain("verify: 90 offsets accounted for");
  });

  it.each([
    { ttl: "", trimmed: 0 },
    { ttl: "", trimmed: 60 },
    { ttl: "", trimmed: 100 },
    { ttl: "toIntervalDay(30)", trimmed: 0 },
    { ttl: "toIntervalDay(30)", trimmed: 60 },
    { ttl: "toIntervalDay(30)", trimmed: 100 },
  ])("is found at the head, in the middle, at the tail, and when it is every row: %o", async ({ ttl, trimmed }) => {
    await using system = await startSystem(hundred);
    for (const table of ttl === "" ? [] : ["events_raw", "log_outcomes"]) {
      await system.warehouse.command(`ALTER TABLE ${table} MODIFY TTL toDateTime(log_time) + ${ttl}`);
    }
    if (trimmed > 0) await system.log.trim(EVENTS_TOPIC, 0, trimmed);
    for (const [where, ranges] of [
      ["log_offset < 3", [[0, 2]]],
      [
        "log_offset IN (50, 51)",
        [
          [0, 2],
          [50, 51],
        ],
      ],
      [
        "log_offset = 99",
        [
          [0, 2],
          [50, 51],
          [99, 99],
        ],
      ],
      ["1", [[0, 99]]],
    ] as const) {
      await system.remove("events_raw", where);
      const finding = await verifyTopic({ ...system, kind: STORED_EVENTS }, false);
      expect(isSound(finding)).toBe(false);
      expect(finding.audit.partitions[0]?.missing.ranges).toEqual(ranges.map(([from, to]) => ({ from, to })));
    }
  });

  it("that the log let go before it was stored is missing, until a person gives up just that many", async () => {
    await using system = await startSystem(hundred);
    await system.remove("events_raw", "log_offset >= 40");
    await commit(system.log, 40);
    await system.log.trim(EVENTS_TOPIC, 0, 70);
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    expect(out).toContain("missing: partition 0, offsets 40 to 69\n");
    expect(out).toContain("30 missing, 0 doubled, 30 not stored yet");
    expect(out).toContain("To give them up: millrace verify --accept-lost 30\n");
    const other = await system.verify("--accept-lost", "29");
    expect(other).toMatchObject({ code: 2, err: expect.stringContaining("30 offsets are missing") });
    const given = await system.verify("--accept-lost", "30");
    expect(given).toMatchObject({
      code: 3,
      out: expect.stringMatching(/ 0 missing, 0 doubled, 30 given up as lost, 30 not/),
    });
    expect(await system.verify("--allow-lag")).toMatchObject({ code: 0 });
  });
});

it("rows that come back say again who is who", async () => {
  const said = [recordOf({ event: "seen", distinctId: "x", id: idOf(1) }), identified];
  await using system = await startSystem(said);
  await system.remove("events_raw", "1");
  expect((await system.verify("--repair")).code).toBe(0);
  const people = "SELECT DISTINCT person_id AS p FROM events";
  expect(await system.select(people)).toEqual([{ p: personIdOf("u") }]);
  expect(await system.select("SELECT id, properties AS p FROM persons")).toEqual([
    { id: personIdOf("u"), p: '{"plan":"pro"}' },
  ]);
});

describe("a lost outcome", () => {
  const retry = record(idOf(3), 3);
  const mixed = [...hundred.slice(0, 5), poison, retry, record(idOf(7), 7), poison, record(idOf(4), 9)];

  it("comes back as what it was: no event is counted twice, no dead letter is kept twice", async () => {
    await using system = await startSystem(mixed);
    const outcomes = "SELECT log_offset, outcome FROM log_outcomes ORDER BY log_offset";
    const letters = "SELECT log_offset, value_base64 FROM dead_letters ORDER BY log_offset";
    const before = [await system.select(outcomes), await system.select(letters)];
    await system.remove("log_outcomes", "1");
    await system.remove("dead_letters", "log_offset = 8");
    expect((await system.verify()).out).toContain("4 missing");
    expect((await system.verify("--repair")).code).toBe(0);
    expect([await system.select(outcomes), await system.select(letters)]).toEqual(before);
  });

  it("that has its line, and only the bytes of its dead letter not, is missing, and has them again from the log", async () => {
    await using system = await startSystem(mixed);
    await system.remove("events_raw", "log_offset = 7");
    const place = `'${system.epoch}', '${EVENTS_TOPIC}', 0, 7, now64(3)`;
    await system.warehouse.command(
      `INSERT INTO log_outcomes (log_epoch, log_topic, log_partition, log_offset, log_time, outcome, detail)
       VALUES (${place}, 'dead_letter', 'clickhouse_27')`,
    );
    const outcomes = "SELECT log_offset, outcome, detail FROM log_outcomes ORDER BY log_offset";
    const before = await system.select(outcomes);
    for (const time of [1, 2]) {
      await system.remove("dead_letters", "1");
      const { code, out } = await system.verify();
      expect({ time, code, out }).toMatchObject({ code: 1, out: expect.stringContaining("3 missing, 0 doubled") });
      expect(await system.verify("--repair")).toMatchObject({
        code: 0,
        out: expect.stringMatching(/^repaired 3 offsets$/m),
      });
      const [, , , , , bytes, , refused] = mixed.map(({ value }) => Buffer.from(value).toString("base64"));
      expect(
        await system.select(
          "SELECT log_offset, error_class AS c, value_base64 AS v FROM dead_letters ORDER BY log_offset",
        ),
      ).toEqual([
        { log_offset: "5", c: "undecodable", v: bytes },
        { log_offset: "7", c: "clickhouse_27", v: refused },
        { log_offset: "8", c: "undecodable", v: bytes },
      ]);
    }
    expect(await system.select(outcomes)).toEqual(before);
    expect(await system.select("SELECT 1 FROM events_raw WHERE log_offset = 7")).toEqual([]);
  });

  it("comes back with rows that were lost around it", async () => {
    await using system = await startSystem(mixed);
    await system.remove("log_outcomes", "1");
    await system.remove("events_raw", "1");
    const { code, out } = await system.verify("--repair", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      topics: [
        { partitions: [{ rows: 6, duplicates: 1, conflicts: 1, deadLetters: 2 }], repair: { repaired: 10, lost: [] } },
      ],
    });
  });

  it("of a replay under an id that a gateway made comes back as a duplicate, also of a row of an older log", async () => {
    const replay = { idFromCaller: false, checkStored: true };
    await using system = await startSystem([
      record(idOf(0), 0),
      record(idOf(0), 0, replay),
      record(idOf(9), 0, replay),
    ]);
    await system.copy("log_offset = 0", { uuid: `toUUID('${idOf(9)}')`, log_epoch: "'older'" });
    await system.remove("events_raw", "log_offset > 0");
    await system.remove("log_outcomes", "1");
    expect((await system.verify("--repair")).code).toBe(0);
    expect(await system.select("SELECT log_offset, outcome, detail FROM log_outcomes ORDER BY log_offset")).toEqual([
      { log_offset: "1", outcome: "duplicate", detail: "0:0" },
      { log_offset: "2", outcome: "duplicate", detail: "older:0:0" },
    ]);
  });

  it("that says erased keeps the event away", async () => {
    await using system = await startSystem(hundred);
    await system.warehouse.command(
      `INSERT INTO log_outcomes SELECT log_epoch, log_topic, log_partition, log_offset, 'erased', '', log_time
       FROM events_raw WHERE log_offset = 9`,
    );
    expect((await system.verify()).out).toContain("doubled: partition 0, offset 9 is erased and row");
    await system.remove("events_raw", "log_offset = 9");
    expect((await system.verify("--repair")).code).toBe(0);
    expect(await system.select("SELECT 1 FROM events_raw WHERE log_offset = 9")).toEqual([]);
  });
});

describe("too much", () => {
  it("is found when an offset is stored twice", async () => {
    await using system = await startSystem(hundred);
    await system.copy("log_offset = 7", {});
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    expect(out).toContain("doubled: partition 0, offset 7 is row and row");
    expect(out).toContain("verify: 100 offsets accounted for, 0 missing, 1 doubled\n");
  });

  it("does not hide what is missing beside it", async () => {
    await using system = await startSystem(hundred);
    // As many rows as before, with the same sum of offsets.
    await system.copy("log_offset IN (5, 7)", { log_offset: "toUInt64(6)" });
    await system.remove("events_raw", "log_offset IN (5, 7)");
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    expect(out).toContain("2 missing, 1 doubled");
    expect(out).toContain("offset 6 is row and row and row");
  });

  it("is found when one id is two events", async () => {
    await using system = await startSystem(hundred);
    await system.log.append(EVENTS_TOPIC, [record(idOf(5), 100)]);
    await commit(system.log, 101);
    await system.copy("log_offset = 5", { log_offset: "toUInt64(100)" });
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    expect(out).toContain(`stored twice: id ${idOf(5)} is 2 rows, at partition:offset 0:5 to 0:100`);
    expect(out).toMatch(/0 missing, 0 doubled, 1 ids stored twice\n$/);
  });

  it("is found when the tables know more than the log", async () => {
    await using system = await startSystem(hundred);
    await system.copy("log_offset = 5", { log_offset: "toUInt64(500)" });
    const { code, out } = await system.verify();
    expect(code).toBe(1);
    expect(out).toContain("the log ends at 100, but offsets up to 500");
    expect(out).toContain("--new-epoch");
  });
});

it("rows that no topic has brought are named and not counted", async () => {
  await using system = await startSystem(hundred);
  await system.warehouse.command("INSERT INTO events_raw (event, log_time) VALUES ('by hand', now64(3))");
  const { code, out } = await system.verify();
  expect(code).toBe(0);
  expect(out).toContain("not covered: 1 rows of events_raw that came from no topic: put in by hand\n");
  expect(out).toContain("verify: 100 offsets accounted for, 0 missing, 0 doubled\n");
});

it("rows of an older epoch are named and not counted", async () => {
  await using system = await startSystem(hundred);
  await system.copy("log_offset < 10", { log_epoch: "'older'", log_time: "log_time - toIntervalDay(1)" });
  const { code, out } = await system.verify();
  expect(code).toBe(0);
  expect(out).toContain("not covered: older epoch older with 10 rows");
});

it("rows of an older epoch that is of the same log are doubled", async () => {
  await using system = await startSystem(hundred);
  await system.copy("log_offset < 60", { log_epoch: "'older'" });
  const { code, out } = await system.verify();
  expect(code).toBe(1);
  expect(out).toContain(
    "doubled: older epoch older is of the same log: 60 of its rows are rows of this epoch as well\n",
  );
  expect(out).toContain("0 missing, 60 doubled");
});

it("rows that a TTL may take are not missing", async () => {
  // The first 20 arrived a month ago; of those, 10 to 19 are still there.
  const agoMs = (offset: number) => (offset < 20 ? 30 * 86_400_000 : 0);
  await clickhouse.migrate("verify_ttl");
  await using system = await startSystem(hundred, { agoMs, database: "verify_ttl" });
  await system.remove("events_raw", "log_offset < 10");
  await system.warehouse.command("ALTER TABLE events_raw MODIFY TTL toDateTime(log_time) + toIntervalWeek(1)");
  expect(await system.verify()).toMatchObject({
    code: 0,
    out: expect.stringContaining("verify: 80 offsets accounted for"),
  });
  await system.remove("events_raw", "log_offset = 50");
  expect(await system.verify()).toMatchObject({
    code: 1,
    out: expect.stringContaining("missing: partition 0, offset 50"),
  });
});

describe("an audit that cannot be run", () => {
  it("ends with 2 and names the setting", async () => {
    await using system = await startSystem(hundred.slice(0, 1));
    const noLog = await system.verify("--data-dir", "/nonexistent");
    expect(noLog).toMatchObject({ code: 2, err: expect.stringContaining("DATA_DIR") });
    const noServer = await system.verify("--clickhouse-url", "http://127.0.0.1:1");
    expect(noServer).toMatchObject({ code: 2, err: expect.stringContaining("CLICKHOUSE_URL") });
    const noTables = await system.verify("--clickhouse-database", "default");
    expect(noTables).toMatchObject({ code: 2, err: expect.stringContaining("millrace migrate") });
    expect(await system.verify("--jason")).toMatchObject({ code: 2, err: expect.stringContaining("--json") });
  });
});

it("finds gaps at the edges of blocks of a million offsets", async () => {
  await using system = await startSystem(hundred.slice(0, 1));
  const log = { epoch: "large", topic: EVENTS_TOPIC };
  await system.warehouse.command(
    `INSERT INTO events_raw (uuid, log_epoch, log_topic, log_partition, log_offset, log_time)
     SELECT generateUUIDv4(), 'large', {topic:String}, 3, number, now64(3) FROM numbers(2500000)
     WHERE number NOT IN (999999, 1000000, 2000000, 2499999)`,
    { params: { topic: EVENTS_TOPIC } },
  );
  const stored = createStoredLog(system.warehouse, log, STORED_EVENTS.table);
  const { stored: sums, expected } = await stored.blocks(3, 0, 2_500_000);
  expect(sums.map(({ count }) => count).sort()).toEqual([499_998, 999_999, 999_999]);
  expect([...expected.values()].map(({ count }) => count).sort()).toEqual([1_000_000, 1_000_000, 500_000]);
  expect(await stored.missing(3, 1_000_000, 2_000_000)).toEqual({
    count: 1,
    ranges: [{ from: 1_000_000, to: 1_000_000 }],
  });
  expect(await stored.missing(3, 2_000_000, 2_500_000)).toEqual({
    count: 2,
    ranges: [
      { from: 2_000_000, to: 2_000_000 },
      { from: 2_499_999, to: 2_499_999 },
    ],
  });
  const clean = await stored.blocks(3, 100, 999_999);
  expect(clean.stored.map(({ count, hash }) => ({ count, hash }))).toEqual([...clean.expected.values()]);
});
