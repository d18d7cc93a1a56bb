// The connected agents as a table.
import { printable } from "#lib/process/printable.ts";
import type { ConnectedRelay } from "./client.ts";

/** Padded columns under their names, or a sentence when nobody is connected. */
export function relaysTable(relays: readonly ConnectedRelay[]): string {
  if (relays.length === 0) return "no agent is connected here";
  const rows = [...relays]
    .sort((a, b) => Number(a.id > b.id) - Number(a.id < b.id))
    .map(({ id, address, connected_at, last_seen, collectors }) => [
      printable(id),
      address,
      connected_at,
      last_seen,
      collectors.map(({ name }) => printable(name)).join(" "),
    ]);
  const all = [["id", "address", "connected at", "last seen", "collectors"], ...rows];
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
