// The standalone, beside the cluster.
import { runStandaloneChaos } from "../standalone.ts";
import type { Fault } from "./fault.ts";

const EVENTS_PER_SECOND_MAX = 100;
/** On a slow machine the faults that must be seen take longer than was planned. */
const OVERTIME = 3;

export const standalone: Fault = async ({ random, signal, holdMs, eventsPerSecond }) => {
  const begun = performance.now();
  const enough = new AbortController();
  const report = await runStandaloneChaos({
    random: random.next,
    signal: AbortSignal.any([signal, enough.signal, AbortSignal.timeout(OVERTIME * holdMs)]),
    eventsPerSecond: Math.min(eventsPerSecond, EVENTS_PER_SECOND_MAX),
    // Its account is in the report; a line for each of its kills would bury the cluster's faults.
    report: () => undefined,
    onFault(seen) {
      if (seen.kills > 0 && seen.fullDisks > 0 && performance.now() - begun > holdMs) enough.abort();
    },
  });
  const { kills, fullDisks, acked, rows, lost, doubled, verifyExitCode } = report;
  if (kills === 0 || fullDisks === 0) throw new Error(`${kills} kills and ${fullDisks} full disks`);
  const proof = `${kills} kills, ${fullDisks} full disks; acked ${acked}, rows ${rows}, lost ${lost}, doubled ${doubled}, verify ${verifyExitCode}`;
  return { proof, standalone: report };
};
