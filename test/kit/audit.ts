// The tests' own audit, independent of `millrace verify`: what is stored of one epoch against what was appended. Rows
// and outcomes are read one by one; trace-checker.ts judges them.

import type { RowTable } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import type { MemoryRow, MemoryWarehouse } from "./memory-warehouse.ts";
import { type AckedRecord, checkTrace, type TraceOutcome, type TraceRow, type Verdict } from "./trace-checker.ts";

export interface StoredAudit extends Verdict {
  rows: number;
  duplicates: number;
  conflicts: number;
  deadLetters: number;
}

const NOTHING_WRONG: Verdict = {
  lost: [],
  unaccounted: [],
  doubled: [],
  doubledIds: [],
  foreign: [],
  disordered: [],
  lostLetters: [],
};

/** What toMatchObject must find: nothing lost, nothing double, and these numbers. */
export function exactlyOnce(numbers: { rows: number; duplicates?: number; conflicts?: number; deadLetters?: number }) {
  return { duplicates: 0, conflicts: 0, deadLetters: 0, ...numbers, ...NOTHING_WRONG };
}

type Ends = ReadonlyMap<number, number>;

interface Found {
  rows: readonly TraceRow[];
  outcomes: readonly TraceOutcome[];
  letters: readonly StoredPlace[];
}

type StoredPlace = AckedRecord & { epoch: string };

/** `ends`: the log's end offset by partition; every partition begins at 0. */
export async function auditStored(
  warehouse: Warehouse,
  epoch: string,
  ends: Ends,
  { name, isFromCaller, apiKey }: RowTable = EVENTS.table,
): Promise<StoredAudit> {
  const ask = <Row>(columns: string, table: string) =>
    warehouse.query<Row>(
      `SELECT log_partition AS p, toString(log_offset) AS o${columns} FROM ${table} WHERE log_epoch = {epoch:String}
       ORDER BY log_partition, log_offset`,
      { params: { epoch } },
    );
  const raw = await ask<{ p: number; o: string; id: string | null }>(
    `, if(${isFromCaller}, concat(${apiKey}, ' ', toString(uuid)), NULL) AS id`,
    name,
  );
  const others = await ask<{ p: number; o: string; outcome: string; detail: string }>(
    ", toString(outcome) AS outcome, detail",
    "log_outcomes",
  );
  const letters = await ask<{ p: number; o: string }>("", "dead_letters");
  const placed = ({ p, o }: { p: number; o: string }) => ({ epoch, partition: Number(p), offset: Number(o) });
  return judge(epoch, ends, {
    rows: raw.map((row) => ({ ...placed(row), id: row.id ?? undefined })),
    outcomes: others.map((one) => ({ ...placed(one), outcome: one.outcome, detail: one.detail })),
    letters: letters.map(placed),
  });
}

/** The same for the events of a warehouse in memory. */
export function auditMemory(warehouse: Pick<MemoryWarehouse, "rowsOf">, epoch: string, ends: Ends): StoredAudit {
  const of = (table: Parameters<MemoryWarehouse["rowsOf"]>[0]) =>
    warehouse
      .rowsOf(table)
      .filter((row) => row.log_epoch === epoch)
      .sort((a, b) => Number(a.log_partition) - Number(b.log_partition) || Number(a.log_offset) - Number(b.log_offset));
  const placed = (row: MemoryRow) => ({ epoch, partition: Number(row.log_partition), offset: Number(row.log_offset) });
  const textOf = (value: unknown) => String(value);
  return judge(epoch, ends, {
    rows: of("events_raw").map((row) => ({
      ...placed(row),
      id: row.uuid_from_caller === 1 ? `${textOf(row.api_key)} ${textOf(row.uuid)}` : undefined,
    })),
    outcomes: of("log_outcomes").map((row) => ({
      ...placed(row),
      outcome: textOf(row.outcome),
      detail: textOf(row.detail),
    })),
    letters: of("dead_letters").map(placed),
  });
}

function judge(epoch: string, ends: Ends, { rows, outcomes, letters }: Found): StoredAudit {
  const acked: AckedRecord[] = [...ends].flatMap(([partition, end]) =>
    Array.from({ length: end }, (_, offset) => ({ partition, offset })),
  );
  const countOf = (wanted: string) => positions(outcomes.filter(({ outcome }) => outcome === wanted));
  return {
    rows: positions(rows),
    duplicates: countOf("duplicate"),
    conflicts: countOf("conflict"),
    deadLetters: countOf("dead_letter"),
    ...checkTrace({ epoch, acked, rows, outcomes, letters }),
  };
}

function positions(all: readonly AckedRecord[]): number {
  return new Set(all.map(({ partition, offset }) => `${partition}:${offset}`)).size;
}
