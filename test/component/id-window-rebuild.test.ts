// The id window after a restart: read back from the rows in a compact form, the same as by the plain one, and while that
// lasts readiness and the log say so.
import { afterAll, beforeAll, expect, it } from "vitest";
import { formatUuid, parseUuid } from "#lib/events/ids.ts";
import { createCallerIdReader } from "#lib/ledger/caller-ids.ts";
import { createIdWindow, type IdWindow, windowId } from "#lib/ledger/id-window.ts";
import { createStoredOffsets } from "#lib/ledger/stored.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf } from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

const ROWS = 100_000;
const ORIGIN = { epoch: "many", topic: "millrace.events", partition: 0 };
const BOUNDS = { ageMsMax: 1e12, offsetsMax: ROWS };
const KEYS = ["", "phc_key", "clé", "k".repeat(300)];

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("rebuild");
  warehouse = clickhouse.warehouse("rebuild");
  await warehouse.command(
    `INSERT INTO events_raw (uuid, uuid_from_caller, api_key, log_epoch, log_topic, log_partition, log_offset, log_time)
     SELECT generateUUIDv4(), number % 10 != 0, arrayElement({keys:Array(String)}, 1 + number % 4), 'many', 'millrace.events',
       0, number, fromUnixTimestamp64Milli(1790000000000 + toInt64(number)) FROM numbers({rows:UInt64})`,
    { params: { keys: KEYS, rows: ROWS } },
  );
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** As it was read before: a JSON object a row. Slow and large, and plain to see that it is right. */
async function readPlainly(add: (id: string, offset: number, appendTimeMs: number) => void): Promise<void> {
  const rows = await warehouse.query<{ k: string; u: string; o: string; t: string }>(
    `SELECT api_key AS k, toString(uuid) AS u, log_offset AS o, toUnixTimestamp64Milli(log_time) AS t FROM events_raw
     WHERE log_epoch = 'many' AND uuid_from_caller ORDER BY o`,
  );
  for (const { k, u, o, t } of rows) add(windowId(parseUuid(u) as Uint8Array, k), Number(o), Number(t));
}

const readCompactly = (window: IdWindow) =>
  createStoredOffsets(warehouse, ORIGIN, STORED_EVENTS.table).callerIds(0, ROWS, 0, (uuid, apiKey, offset, timeMs) =>
    window.addUuid(uuid, apiKey, offset, timeMs),
  );

/** Of this process, the second time, when its code is warm. The engine's time is the same for both. */
async function cpuMsOf(read: () => Promise<void>): Promise<number> {
  await read();
  const before = process.cpuUsage();
  await read();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

it("has the same ids as by the plain form, for less work", async () => {
  const [compact, plain] = [createIdWindow(BOUNDS), createIdWindow(BOUNDS)];
  await readPlainly((...row) => plain.add(...row));
  await readCompactly(compact);
  expect(compact.size).toBe(ROWS * 0.9);
  expect(compact.size).toBe(plain.size);
  const differing: number[] = [];
  await readPlainly((id, offset, timeMs) => {
    if (compact.firstOffset(id, offset + 1, timeMs) !== offset) differing.push(offset);
  });
  expect(differing).toEqual([]);
  const plainly = createIdWindow({ ...BOUNDS, offsetsMax: 2 * ROWS });
  const plainMs = await cpuMsOf(() => readPlainly((...row) => plainly.add(...row)));
  const compactMs = await cpuMsOf(() => readCompactly(createIdWindow(BOUNDS)));
  expect(compactMs).toBeLessThan(plainMs * 0.8);
});

it("is read the same however its answer is cut into pieces", async () => {
  const sql = `SELECT uuid, log_offset, toUnixTimestamp64Milli(log_time) AS ms, toString(api_key) AS k FROM events_raw
    WHERE log_epoch = 'many' AND log_offset < 40 ORDER BY log_offset`;
  const pieces: Buffer[] = [];
  await warehouse.readBinary(sql, (piece) => pieces.push(Buffer.from(piece)));
  const whole = Buffer.concat(pieces);
  const read = (size: number) => {
    const rows: string[] = [];
    const reader = createCallerIdReader((uuid, apiKey, offset, ms) =>
      rows.push(`${formatUuid(new Uint8Array(uuid.buffer))} ${apiKey} ${offset} ${ms}`),
    );
    for (let at = 0; at < whole.length; at += size) reader(whole.subarray(at, at + size));
    return rows;
  };
  expect(read(whole.length)).toHaveLength(40);
  for (const size of [1, 2, 7, 31, 32, 33, 71, 500]) expect(read(size)).toEqual(read(whole.length));
});

it("holds readiness back while it is read, says so in the log, and goes on where an answer broke off", async () => {
  await using stage = await createStage(warehouse, { epoch: "restart" });
  await stage.append(...Array.from({ length: 20 }, (_, n) => eventRecord({ id: idOf(n) })));
  await using first = stage.start();
  await stage.drained();
  await first[Symbol.asyncDispose]();

  const gate = Promise.withResolvers<void>();
  let reads = 0;
  const second = stage.start({
    warehouse: (inner) => ({
      ...inner,
      async readBinary(sql, take, options) {
        if (reads++ > 0) return inner.readBinary(sql, take, options);
        await inner.readBinary(sql, (piece) => take(piece.subarray(0, 200)), options);
        await gate.promise;
        throw new WarehouseError("the answer broke off", "transient");
      },
    }),
  });
  const ready = () => Promise.all(second.checks.map(({ check }) => check(AbortSignal.timeout(patience(5_000)))));
  await until(() => reads > 0, "the ids are being read");
  await expect(ready()).rejects.toThrow(
    "millrace.events/0 reads the ids of recent rows, by which it knows what was sent twice",
  );
  gate.resolve();
  await until(() => reads > 1, "it is read again");
  await stage.append(...Array.from({ length: 21 }, (_, n) => eventRecord({ id: idOf(n) })));
  await stage.drained();
  await ready();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 21, duplicates: 20 }));
  expect(second.lines.map(({ msg }) => msg)).toEqual(
    expect.arrayContaining(["reading the ids of recent rows", "ids of recent rows read"]),
  );
});
