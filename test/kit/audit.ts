// The tests' own audit, independent of `millrace verify`: what is stored of one epoch against what was appended. Rows
// and outcomes are read one by one; trace-checker.ts judges them.

import type { RowTable } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
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

/** `ends`: the log's end offset by partition; every partition begins at 0. */
export async function auditStored(
  warehouse: Warehouse,
  epoch: string,
  ends: ReadonlyMap<number, number>,
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
  const rows: TraceRow[] = raw.map((row) => ({ ...placed(row), id: row.id ?? undefined }));
  const outcomes: TraceOutcome[] = others.map((one) => ({ ...placed(one), outcome: one.outcome, detail: one.detail }));
  const acked: AckedRecord[] = [...ends].flatMap(([partition, end]) =>
    Array.from({ length: end }, (_, offset) => ({ partition, offset })),
  );
  const countOf = (wanted: string) => positions(outcomes.filter(({ outcome }) => outcome === wanted));
  return {
    rows: positions(rows),
    duplicates: countOf("duplicate"),
    conflicts: countOf("conflict"),
    deadLetters: countOf("dead_letter"),
    ...checkTrace({ epoch, acked, rows, outcomes, letters: letters.map(placed) }),
  };
}

function positions(all: readonly AckedRecord[]): number {
  return new Set(all.map(({ partition, offset }) => `${partition}:${offset}`)).size;
}
