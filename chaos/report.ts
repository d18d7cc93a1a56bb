// The end of a run, for people.
import type { FaultKind } from "./kinds.ts";
import type { ChaosReport } from "./run.ts";
import type { PlannedFault } from "./schedule.ts";

export function planText(plan: readonly PlannedFault[]): string {
  return plan
    .map(({ atMs, kind, target, durationMs }) => {
      const at = (atMs / 1000).toFixed(1).padStart(6);
      return `${at} s  ${kind.padEnd(18)} ${target.padEnd(11)} ${(durationMs / 1000).toFixed(1).padStart(5)} s`;
    })
    .join("\n");
}

/** `again`: the command that repeats the run. */
export function reportText(report: ChaosReport, again: string): string {
  const { audit, failures, logs } = report;
  const rows: [string, string | number][] = [
    ["seed", report.seed],
    ...faultRows(report),
    ["acked", report.acked],
    ["requests sent again", report.retries],
    ["events sent twice on purpose", report.repeats],
    ["events about people", report.told],
    ...auditRows(report),
    ["longest stall without a fault", `${report.longestStallSeconds.toFixed(1)} s`],
    ["worst recovery from one", `${report.worstRecoverySeconds.toFixed(1)} s`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const table = rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
  const verdict =
    failures.length === 0
      ? "nothing lost, nothing doubled, nobody taken for somebody else"
      : `FAILED\n${failures.map((failure) => `  ${failure}`).join("\n")}`;
  const kept = logs === undefined ? "" : `\nlogs of all processes: ${logs}\nagain: ${again}`;
  return `${audit?.verifyOutput.trim() ?? ""}\n\n${table}\n\n${verdict}${kept}\n`;
}

function auditRows({ audit, faults }: ChaosReport): [string, string | number][] {
  if (audit === undefined) return [["stored, lost, doubled", "not counted"]];
  const beside = faults.flatMap(({ standalone }) =>
    standalone
      ? [
          ["standalone", `lost ${standalone.lost}, doubled ${standalone.doubled} of ${standalone.acked}`] as [
            string,
            string,
          ],
        ]
      : [],
  );
  return [
    ["stored", audit.stored],
    ["duplicates dropped", audit.duplicates],
    ["dead letters", audit.deadLetters],
    ["lost", audit.lost],
    ["doubled", audit.doubled],
    ["altered, or sent by nobody", audit.altered + audit.unknown],
    ["people", `${audit.people} with ${audit.distinctIds} distinct ids`],
    ["wrong people", audit.wrongPeople],
    ["values in the roll-up", `${audit.values.rollup.count} of ${audit.values.rows.count}`],
    ["verify", `exit ${audit.verifyExitCode}`],
    ...beside,
  ];
}

function faultRows({ faults }: ChaosReport): [string, string][] {
  const byKind = new Map<FaultKind, { seen: number; planned: number }>();
  for (const { kind, isSeen } of faults) {
    const counts = byKind.get(kind) ?? { seen: 0, planned: 0 };
    counts.planned++;
    if (isSeen) counts.seen++;
    byKind.set(kind, counts);
  }
  return [...byKind]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([kind, { seen, planned }]) => [`seen: ${kind}`, `${seen} of ${planned}`]);
}
