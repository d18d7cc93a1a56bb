// Clocks of other machines against ours. Event times come from gateways, windows and retention from the log.
import type { Finding } from "./probe.ts";

const SKEW_WARN_MS = 5_000;
/** What the consumer's id window allows for append times and the clocks of their readers. */
const SKEW_FAIL_MS = 600_000;

/** `skewMs` is its clock minus ours, give or take `uncertainMs`. */
export function judgeClock(whose: string, skewMs: number, uncertainMs: number): Finding {
  const leastMs = Math.max(0, Math.abs(skewMs) - uncertainMs);
  if (leastMs < SKEW_WARN_MS) return { status: "ok", what: `the clock of ${whose} agrees with this machine's` };
  const what = `the clock of ${whose} is ${Math.round(leastMs / 1000)} s ${skewMs > 0 ? "ahead of" : "behind"} this machine's`;
  return { status: leastMs < SKEW_FAIL_MS ? "warn" : "fail", what, fix: "let NTP set the clock of both machines" };
}
