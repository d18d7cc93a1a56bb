// `millrace properties ls`: one line a key, the most frequent first.

import { printable, printableJson, quoted } from "#lib/process/printable.ts";
import type { FillState, PromotedProperty } from "#lib/warehouse/promoted-columns.ts";
import type { KeyStatistic, KeyStatistics, Scope } from "#lib/warehouse/property-statistics.ts";

const EXAMPLE_CHARS = 60;

export interface Listing {
  scope: Scope;
  statistics: KeyStatistics;
  promoted: readonly (PromotedProperty & FillState)[];
}

export function listingText({ scope, statistics, promoted }: Listing): string {
  const { total, sampled, keys } = statistics;
  const of = scope.event === undefined ? "events" : `events ${quoted(scope.event)}`;
  const range = `of the last ${scope.days} ${scope.days === 1 ? "day" : "days"}`;
  const looked = sampled < total ? `a sample of ${written(sampled)} of ${written(total)}` : `all ${written(total)}`;
  const rows = keys.map((statistic) => [
    quoted(statistic.key),
    shareText(statistic.events, sampled),
    statistic.kinds.join(", "),
    columnText(promoted.find(({ key }) => key === statistic.key)),
    exampleText(statistic),
  ]);
  const missing = promoted.filter(({ key }) => !keys.some((statistic) => statistic.key === key));
  return [
    total === 0 ? `no ${of} ${range}\n` : `${looked} ${of} ${range}\n`,
    rows.length === 0 ? "" : aligned([["key", "share", "types", "column", "example"], ...rows]),
    ...missing.map((each) => `not in the list: ${quoted(each.key)}, ${columnText(each)}\n`),
  ].join("");
}

export function listingJson({ scope, statistics: { total, sampled, keys }, promoted }: Listing): string {
  const columnOf = (key: string) => {
    const found = promoted.find((each) => each.key === key);
    return found && { name: found.column, type: found.type, parts: found.parts, filled: found.filled };
  };
  const list = keys.map(({ key, events, kinds, example }) => ({
    ...{ key, events, share: sampled === 0 ? 0 : events / sampled, types: kinds, example },
    column: columnOf(key) ?? null,
  }));
  return `${printableJson({ days: scope.days, event: scope.event ?? null, total, sampled, keys: list, promoted }, 2)}\n`;
}

function columnText(property: (PromotedProperty & FillState) | undefined): string {
  if (!property) return "";
  const { column, type, filled, parts } = property;
  return `${column} ${type}${filled < parts ? ` (${filled} of ${parts} parts filled)` : ""}`;
}

function exampleText({ example }: KeyStatistic): string {
  const shown = printable(example);
  return shown.length > EXAMPLE_CHARS ? `${shown.slice(0, EXAMPLE_CHARS)}…` : shown;
}

function shareText(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
}

function written(n: number): string {
  return n.toLocaleString("en-US");
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}
