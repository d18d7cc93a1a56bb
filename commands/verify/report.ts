// The audit as people read it.

import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import { lossAdvice } from "./accept.ts";
import { type Audit, type AuditTotals, type PartitionAudit, totalsOf } from "./audit.ts";
import type { RollupAudit } from "./rollup.ts";
import type { OffsetRange } from "./stored.ts";
import { type Finding, isSound } from "./verify.ts";

const rangesShownMax = 20;
const slotsShownMax = 20;

const columns: readonly [title: string, cell: (partition: PartitionAudit) => number][] = [
  ["partition", ({ partition }) => partition],
  ["from", ({ from }) => from],
  ["to", ({ to }) => to],
  ["rows", ({ rows }) => rows],
  ["duplicates", ({ duplicates }) => duplicates],
  ["conflicts", ({ conflicts }) => conflicts],
  ["dead letters", ({ deadLetters }) => deadLetters],
  ["erased", ({ erased }) => erased],
  ["lost", ({ lost }) => lost],
  ["not stored yet", ({ notStored }) => notStored.count],
  ["missing", ({ missing }) => missing.count],
  ["doubled", ({ doubled }) => doubled.count],
];

/** Ends with the one line that says it all. */
export function findingsText(findings: readonly Finding[]): string {
  const advice = lossAdvice(findings.map(({ audit }) => audit)) ?? [];
  return `${[...findings.flatMap(linesOf), advice, closingLine(findings)].flat().join("\n")}\n`;
}

export function findingsJson(findings: readonly Finding[]): string {
  const topics = findings.map(({ audit, rollup, repair, recomputed }) => ({ ...audit, rollup, repair, recomputed }));
  const totals = { ...sumsOf(findings), oldestNotStoredSeconds: oldestSeconds(findings) ?? null };
  const clean = findings.every(isSound);
  return `${JSON.stringify({ clean, proven: clean && totals.notStored === 0, totals, topics }, undefined, 2)}\n`;
}

/** How long the oldest record that is not stored yet has waited, by our clock; undefined when none is known to. */
function oldestSeconds(findings: readonly Finding[]): number | undefined {
  const times = findings.flatMap(({ audit }) => audit.partitions.flatMap(({ notStored }) => notStored.oldestMs ?? []));
  return times.length === 0 ? undefined : Math.max(0, Math.round((Date.now() - Math.min(...times)) / 1000));
}

export function sumsOf(findings: readonly Finding[]): AuditTotals & { differingSlots: number } {
  const sums = {
    accounted: 0,
    expired: 0,
    notStored: 0,
    lost: 0,
    missing: 0,
    doubled: 0,
    beyondEnd: 0,
    duplicateIds: 0,
    differingSlots: 0,
  };
  for (const { audit, rollup } of findings) {
    const totals = { ...totalsOf(audit), differingSlots: rollup.differing.length };
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += totals[key];
  }
  return sums;
}

function closingLine(findings: readonly Finding[]): string {
  const { accounted, notStored, lost, missing, doubled, duplicateIds, beyondEnd, differingSlots } = sumsOf(findings);
  const age = oldestSeconds(findings);
  const more = [
    lost > 0 ? `, ${lost} given up as lost` : "",
    notStored > 0 ? `, ${notStored} not stored yet${age === undefined ? "" : ` (the oldest since ${age} s)`}` : "",
    duplicateIds > 0 ? `, ${duplicateIds} ids stored twice` : "",
    beyondEnd > 0 ? `, ${beyondEnd} partitions beyond the end of the log` : "",
    differingSlots > 0 ? `, ${differingSlots} slots of the roll-up differ` : "",
  ].join("");
  return `verify: ${accounted} offsets accounted for, ${missing} missing, ${doubled} doubled${more}`;
}

function linesOf(finding: Finding): string[] {
  const { kind, audit, rollup } = finding;
  return [
    ...repairLines(finding),
    `topic ${audit.topic}, epoch ${audit.epoch}; offsets from "from" up to, not including, "to"; "not stored yet" are those on the log from "to" on`,
    ...table(audit),
    ...audit.partitions.flatMap((partition) => partitionLines(partition, kind)),
    ...duplicateLines(audit),
    ...(audit.shards > 1 ? ["not covered: an id that is a row on two shards, of events with different keys"] : []),
    ...rollupLines(rollup),
    ...(audit.unplaced > 0
      ? [`not covered: ${audit.unplaced} rows of ${kind.table.name} that came from no topic: put in by hand`]
      : []),
    ...audit.olderEpochs.map(({ epoch, stored, alsoStored }) =>
      alsoStored > 0
        ? `doubled: older epoch ${epoch} is of the same log: ${alsoStored} of its rows are rows of this epoch as well`
        : `not covered: older epoch ${epoch} with ${stored} rows and outcomes, whose log is gone`,
    ),
  ];
}

function table({ partitions }: Audit): string[] {
  const cells = partitions.map((partition) => columns.map(([, cell]) => String(cell(partition))));
  const rows = [columns.map(([title]) => title), ...cells];
  const widths = columns.map((_column, index) => Math.max(...rows.map((row) => row[index]?.length ?? 0)));
  return rows.map((row) => row.map((cell, index) => cell.padStart(widths[index] ?? 0)).join("  "));
}

function partitionLines(audit: PartitionAudit, { newEpochFlag }: StoredTopic): string[] {
  const { partition, end, from, to, source, expired, aborted, missing, doubled, beyondEnd } = audit;
  const lines: string[] = [];
  const at = `partition ${partition}`;
  if (source === "none") lines.push(`not covered: ${at}, of which no consumer has stored anything yet`);
  else if (expired > 0)
    lines.push(
      `not covered: ${at}, offsets 0 to ${from - 1}: they arrived longer ago than the tables keep rows; the log still has ${expired} of them`,
    );
  else if (from === to && to > 0) lines.push(`not covered: ${at}, which has nothing left on the log and in the tables`);
  else if (from > 0)
    lines.push(`not covered: ${at}, offsets 0 to ${from - 1}: below what the log or the tables still have`);
  if (source === "progress")
    lines.push(`${at}: the group has no commit; "to" is what the consumer noted in log_progress`);

  if (aborted > 0)
    lines.push(`${at}: ${aborted} offsets are no events: aborted transactions, and control records of Kafka`);

  const shown = missing.ranges.slice(0, rangesShownMax);
  for (const range of shown) lines.push(`missing: ${at}, ${rangeText(range)}`);
  const left = missing.count - shown.reduce((sum, range) => sum + range.to - range.from + 1, 0);
  if (left > 0) lines.push(`missing: ${at}, ${left} more offsets`);

  for (const { offset, kinds } of doubled.examples)
    lines.push(`doubled: ${at}, offset ${offset} is ${kinds.join(" and ")}`);
  const unlisted = doubled.count - doubled.examples.length;
  if (unlisted > 0) lines.push(`doubled: ${at}, ${unlisted} more offsets`);

  if (beyondEnd !== undefined) {
    const { stored, highest } = beyondEnd;
    lines.push(
      `beyond the end: ${at}: the log ends at ${end}, but offsets up to ${highest} were stored or committed (${stored} rows and outcomes from ${end} on)`,
      `  The log was emptied or replaced. Stop the consumer, then run millrace migrate ${newEpochFlag}.`,
    );
  }
  return lines;
}

function duplicateLines({ duplicateIds: { count, examples } }: Audit): string[] {
  const lines = examples.map(
    ({ id, times, first, last }) => `stored twice: id ${id} is ${times} rows, at partition:offset ${first} to ${last}`,
  );
  return count > examples.length ? [...lines, `stored twice: ${count - examples.length} more ids`] : lines;
}

function rangeText({ from, to }: OffsetRange): string {
  return from === to ? `offset ${from}` : `offsets ${from} to ${to}`;
}

function repairLines({ repair, recomputed }: Finding): string[] {
  const lines: string[] = [];
  if (repair) {
    for (const { partition, reason, ...range } of repair.lost) {
      lines.push(`not repaired: partition ${partition}, ${rangeText(range)}: ${reason}`);
    }
    lines.push(`repaired ${repair.repaired} offsets`);
  }
  if (recomputed > 0) lines.push(`computed ${recomputed} slots of the roll-up again`);
  return lines;
}

function rollupLines({ differing, skipped }: RollupAudit): string[] {
  const lines = differing
    .slice(0, slotsShownMax)
    .map(
      ({ partition, slotMs, rows }) =>
        `roll-up: partition ${partition}, slot ${new Date(slotMs).toISOString()}: ${rows} rows differ from what its raw rows make`,
    );
  if (differing.length > slotsShownMax) lines.push(`roll-up: ${differing.length - slotsShownMax} more slots differ`);
  const untold = skipped.map((partition) => `roll-up: partition ${partition} not compared, because rows are missing`);
  return [...lines, ...untold];
}
