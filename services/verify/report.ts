// The audit as people read it.

import { type Audit, type PartitionAudit, totalsOf } from "./audit.ts";
import type { RepairResult } from "./repair.ts";
import type { OffsetRange } from "./stored.ts";

const rangesShownMax = 20;

const columns: readonly [title: string, cell: (partition: PartitionAudit) => number][] = [
  ["partition", ({ partition }) => partition],
  ["from", ({ from }) => from],
  ["to", ({ to }) => to],
  ["rows", ({ rows }) => rows],
  ["duplicates", ({ duplicates }) => duplicates],
  ["dead letters", ({ deadLetters }) => deadLetters],
  ["erased", ({ erased }) => erased],
  ["missing", ({ missing }) => missing.count],
  ["doubled", ({ doubled }) => doubled.count],
];

/** Ends with the one line that says it all. */
export function auditText(audit: Audit): string {
  const lines = [
    `topic ${audit.topic}, epoch ${audit.epoch}; offsets from "from" up to, not including, "to"`,
    ...table(audit),
  ];
  for (const partition of audit.partitions) lines.push(...findings(partition));
  lines.push(...duplicateLines(audit));
  for (const { epoch, stored } of audit.olderEpochs) {
    lines.push(`not covered: older epoch ${epoch} with ${stored} rows and outcomes, whose log is gone`);
  }
  const totals = totalsOf(audit);
  const more = [
    totals.duplicateIds > 0 ? `, ${totals.duplicateIds} ids stored twice` : "",
    totals.beyondEnd > 0 ? `, ${totals.beyondEnd} partitions beyond the end of the log` : "",
  ].join("");
  const { accounted, missing, doubled } = totals;
  lines.push(`verify: ${accounted} offsets accounted for, ${missing} missing, ${doubled} doubled${more}`);
  return `${lines.join("\n")}\n`;
}

function table({ partitions }: Audit): string[] {
  const cells = partitions.map((partition) => columns.map(([, cell]) => String(cell(partition))));
  const rows = [columns.map(([title]) => title), ...cells];
  const widths = columns.map((_column, index) => Math.max(...rows.map((row) => row[index]?.length ?? 0)));
  return rows.map((row) => row.map((cell, index) => cell.padStart(widths[index] ?? 0)).join("  "));
}

function findings({ partition, from, to, source, missing, doubled, beyondEnd }: PartitionAudit): string[] {
  const lines: string[] = [];
  const at = `partition ${partition}`;
  if (source === "none") lines.push(`not covered: ${at}, of which no consumer has committed anything yet`);
  else if (from === to && to > 0) lines.push(`not covered: ${at}, which has nothing left on the log and in the tables`);
  else if (from > 0)
    lines.push(`not covered: ${at}, offsets 0 to ${from - 1}: below what the log or the tables still have`);
  if (source === "progress")
    lines.push(`${at}: the group has no commit; "to" is what the consumer noted in log_progress`);

  const shown = missing.ranges.slice(0, rangesShownMax);
  for (const range of shown) lines.push(`missing: ${at}, ${rangeText(range)}`);
  const left = missing.count - shown.reduce((sum, range) => sum + range.to - range.from + 1, 0);
  if (left > 0) lines.push(`missing: ${at}, ${left} more offsets`);

  for (const { offset, kinds } of doubled.examples)
    lines.push(`doubled: ${at}, offset ${offset} is ${kinds.join(" and ")}`);
  const unlisted = doubled.count - doubled.examples.length;
  if (unlisted > 0) lines.push(`doubled: ${at}, ${unlisted} more offsets`);

  if (beyondEnd !== undefined) {
    const { end, stored, highest } = beyondEnd;
    lines.push(
      `beyond the end: ${at}: the log ends at ${end}, but offsets up to ${highest} were stored or committed (${stored} rows and outcomes from ${end} on)`,
      `  The log was emptied or replaced. Stop the consumer, then run millrace migrate --new-epoch.`,
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

export function repairText({ repaired, lost }: RepairResult): string {
  const lines = lost.map(
    ({ partition, reason, ...range }) => `not repaired: partition ${partition}, ${rangeText(range)}: ${reason}`,
  );
  return `${[...lines, `repaired ${repaired} offsets`].join("\n")}\n`;
}
