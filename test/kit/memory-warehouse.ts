// A warehouse in memory that is fast enough for thousands of runs: the tables the consumer writes, their tokens, and the
// questions the consumer asks of them, known by their words. warehouse-contract.ts holds it to what ClickHouse does.

import { hash } from "node:crypto";
import { parseUuid } from "#lib/events/ids.ts";
import { EVENT_COLUMNS } from "#lib/events/row.ts";
import { DEAD_LETTER_COLUMNS, OUTCOME_COLUMNS } from "#lib/ledger/outcome-rows.ts";
import { type InsertOptions, type QueryOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";

/** A row by column; times in milliseconds. */
export type MemoryRow = Readonly<Record<string, unknown>>;

export interface MemoryWarehouse extends Warehouse {
  /** In the order of the inserts. */
  rowsOf(table: TableName): readonly MemoryRow[];
  /** What a ClickHouse leaves behind that is killed in the middle of this insert: its token, without its rows. */
  keepTokenOnly(options: InsertOptions): void;
}

export interface MemoryWarehouseOptions {
  /** True for rows of events_raw that a constraint of the table forbids. */
  isRefused?: (row: MemoryRow) => boolean;
}

const COLUMNS = {
  events_raw: EVENT_COLUMNS as readonly string[],
  log_outcomes: OUTCOME_COLUMNS,
  dead_letters: DEAD_LETTER_COLUMNS,
  log_progress: ["log_epoch", "log_topic", "log_partition", "next_offset"],
  log_hours: ["log_epoch", "log_topic", "log_partition", "hour", "first_offset"],
};
const NUMBERS = ["log_partition", "log_offset", "next_offset", "hour", "first_offset"];

type TableName = keyof typeof COLUMNS;

interface Table {
  rows: MemoryRow[];
  tokens: Set<string>;
}

/** `query` throws a TypeError for SQL it does not know: the contract must learn the question first. */
export function createMemoryWarehouse({ isRefused }: MemoryWarehouseOptions = {}): MemoryWarehouse {
  const tables = new Map(Object.keys(COLUMNS).map((name) => [name, { rows: [], tokens: new Set() } as Table]));

  /** Undefined when the token is taken. */
  function admit(options: InsertOptions): { table: Table; rows: MemoryRow[] } | undefined {
    const table = tables.get(options.table);
    if (!table) throw new WarehouseError(`no table ${options.table}`, "transient", 60);
    const known = COLUMNS[options.table as TableName];
    const unknown = options.columns.find((column) => !known.includes(column));
    if (unknown !== undefined) throw new WarehouseError(`no column ${unknown}`, "transient", 16);
    const rows = parseRows(options);
    if (options.table === "events_raw" && isRefused && rows.some(isRefused)) throw refused(469, "a constraint");
    if (table.tokens.has(options.token)) return undefined;
    table.tokens.add(options.token);
    return { table, rows };
  }

  return {
    database: "memory",
    rowsOf: (name) => tables.get(name)?.rows ?? [],
    keepTokenOnly: (options) => void admit(options),
    async insert(options) {
      options.signal?.throwIfAborted();
      const admitted = admit(options);
      admitted?.table.rows.push(...admitted.rows);
    },
    async query<Row>(sql: string, options: QueryOptions = {}): Promise<Row[]> {
      options.signal?.throwIfAborted();
      const question = QUESTIONS.find(({ words }) => words.test(sql));
      if (!question) throw new TypeError(`not a question this warehouse knows: ${sql}`);
      const rowsOf = (name: TableName) => (tables.get(name) as Table).rows;
      return question.answer(rowsOf, options.params as unknown as Params) as Row[];
    },
    async readBinary(sql, take, options = {}) {
      options.signal?.throwIfAborted();
      const question = BINARY_QUESTIONS.find(({ words }) => words.test(sql));
      if (!question) throw new TypeError(`not a question this warehouse knows: ${sql}`);
      const rowsOf = (name: TableName) => (tables.get(name) as Table).rows;
      for (const row of question.answer(rowsOf, options.params as unknown as Params)) take(row as Buffer);
    },
    async command(sql) {
      throw new TypeError(`no commands here: ${sql}`);
    },
    async ping() {},
    async [Symbol.asyncDispose]() {},
  };
}

function refused(code: number, why: string): WarehouseError {
  return new WarehouseError(`refused with code ${code}: ${why}`, "rejected", code);
}

function parseRows({ columns, rows }: InsertOptions): MemoryRow[] {
  const lines = Buffer.from(rows.buffer, rows.byteOffset, rows.length).toString("utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => parseRow(line, columns));
}

function parseRow(line: string, columns: readonly string[]): MemoryRow {
  let values: unknown;
  try {
    values = JSON.parse(line);
  } catch {
    // Whatever is wrong with the text, ClickHouse would not read it either.
    throw refused(27, "not JSON");
  }
  if (!Array.isArray(values) || values.length > columns.length) throw refused(27, "too many values");
  const entries = columns.map((column, at): [string, unknown] => [column, values[at]]);
  for (const [column, value] of entries) {
    if (NUMBERS.includes(column) && typeof value !== "number") throw refused(27, `${column} is no number`);
  }
  const row: Record<string, unknown> = Object.fromEntries(entries);
  if (row.properties !== undefined) row.properties = line.slice(propertiesStart(row, line), line.lastIndexOf("]"));
  if (typeof row.log_time === "string") row.log_time = Math.floor(Date.parse(`${row.log_time.replace(" ", "T")}Z`));
  return row;
}

/** Their text, as ClickHouse keeps it, is behind the position, the last column. */
function propertiesStart(row: MemoryRow, line: string): number {
  const position = `,${JSON.stringify([row.log_epoch, row.log_topic, row.log_partition]).slice(1, -1)},`;
  return line.indexOf(position) + position.length;
}

function saidIn(row: MemoryRow): object {
  const { event, distinct_id, source, value, original_timestamp } = row;
  const [t, r] = [microsOf(row.timestamp as string), microsOf(row.inserted_at as string)];
  const h = hash("sha256", row.properties as string);
  return { o: String(offsetOf(row)), event, distinct_id, source, value, t, r, original_timestamp, h };
}

/** Of "2026-11-21 10:00:00.000000". */
function microsOf(time: string): string {
  return `${Date.parse(`${time.slice(0, 23).replace(" ", "T")}Z`)}${time.slice(23)}`;
}

interface Params {
  epoch: string;
  topic: string;
  partition: number;
  from: number;
  to: number;
  since: number;
  before: number;
  refused: string;
  uuids: string[];
  offsets: number[];
}

type RowsOf = (table: TableName) => readonly MemoryRow[];

interface Question {
  words: RegExp;
  answer(rowsOf: RowsOf, params: Params): object[];
}

const offsetOf = (row: MemoryRow) => row.log_offset as number;
const isOf = (row: MemoryRow, { epoch, topic, partition }: Params) =>
  row.log_epoch === epoch && row.log_topic === topic && row.log_partition === partition;

/** Offsets in [from, to). */
function within(rows: readonly MemoryRow[], params: Params, from: number, to: number): MemoryRow[] {
  return rows.filter((row) => isOf(row, params) && offsetOf(row) >= from && offsetOf(row) < to);
}

/** In the order of StoredOffsets, then the identity resolver's. */
const QUESTIONS: readonly Question[] = [
  {
    words: /FROM log_progress/,
    answer(rowsOf, params) {
      const next = rowsOf("log_progress").filter((row) => isOf(row, params));
      const highest = next.reduce((max, row) => Math.max(max, row.next_offset as number), 0);
      return [{ n: String(next.length), next: String(highest) }];
    },
  },
  {
    words: /ORDER BY o DESC LIMIT 1$/,
    answer(rowsOf, params) {
      const stored = [...rowsOf("events_raw"), ...rowsOf("log_outcomes")];
      const [head] = within(stored, params, params.from, Number.POSITIVE_INFINITY).sort(
        (a, b) => offsetOf(b) - offsetOf(a),
      );
      return head ? [{ o: String(offsetOf(head)), t: String(head.log_time) }] : [];
    },
  },
  {
    words: /AS f FROM log_outcomes/,
    answer(rowsOf, params) {
      const { from, to } = params;
      const fates = (rows: readonly MemoryRow[]) =>
        within(rows, params, from, to + 1).map((row) => ({ o: String(offsetOf(row)), f: row.outcome ?? "row" }));
      return [...fates(rowsOf("events_raw")), ...fates(rowsOf("log_outcomes"))];
    },
  },
  {
    words: /FROM dead_letters\s/,
    answer: (rowsOf, params) =>
      within(rowsOf("dead_letters"), params, params.from, params.to + 1).map((row) => ({ o: String(offsetOf(row)) })),
  },
  {
    words: /startsWith\(detail, \{refused:String\}\)/,
    answer(rowsOf, params) {
      const { since, before } = params;
      const rows = within(rowsOf("events_raw"), params, since, before);
      const from = rows.reduce((next, row) => Math.max(next, offsetOf(row) + 1), 0);
      const isLetter = ({ outcome, detail }: MemoryRow) =>
        outcome === "dead_letter" && (detail as string).startsWith(params.refused);
      const refusals = within(rowsOf("log_outcomes"), params, Math.max(since, from), before).filter(isLetter);
      return [{ n: String(refusals.length) }];
    },
  },
  {
    words: /sipHash64\(uuid\) IN \(SELECT/,
    answer: (rowsOf, { uuids }) =>
      rowsOf("events_raw")
        .filter((row) => uuids.includes(row.uuid as string))
        .map((row) => ({
          u: [row.uuid],
          k: row.api_key,
          e: row.log_epoch,
          p: row.log_partition,
          o: String(offsetOf(row)),
        })),
  },
  {
    words: /log_offset IN \{offsets:Array\(UInt64\)\}/,
    answer: (rowsOf, params) =>
      rowsOf("events_raw")
        .filter((row) => isOf(row, params) && params.offsets.includes(offsetOf(row)))
        .map(saidIn),
  },
  // Nobody says anything about identity here, and an insert that did would meet no table.
  { words: /FROM identity_progress/, answer: () => [{ n: "0" }] },
  { words: /FROM identity_edges\s+WHERE log_epoch/, answer: () => [] },
  { words: /DISTINCT log_epoch AS e FROM identity_edges/, answer: () => [] },
];

const BINARY_QUESTIONS: readonly Question[] = [
  {
    words: /AND uuid_from_caller\s+AND log_time >=/,
    answer: (rowsOf, params) =>
      within(rowsOf("events_raw"), params, params.from, params.to)
        .filter((row) => row.uuid_from_caller === 1 && (row.log_time as number) >= params.since)
        .sort((a, b) => offsetOf(a) - offsetOf(b))
        .map((row) => callerId(row.uuid as string, offsetOf(row), row.log_time as number, row.api_key as string)),
  },
];

/** A row of callerIdsSql in RowBinary. */
function callerId(uuid: string, offset: number, timeMs: number, apiKey: string): Buffer {
  const id = parseUuid(uuid) as Uint8Array;
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64LE(BigInt(offset), 0);
  numbers.writeBigInt64LE(BigInt(timeMs), 8);
  const key = Buffer.from(apiKey);
  const halves = [Buffer.from(id.subarray(0, 8)).reverse(), Buffer.from(id.subarray(8)).reverse()];
  return Buffer.concat([...halves, numbers, Buffer.from([key.length]), key]);
}
