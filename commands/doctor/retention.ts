// Whether the log keeps records for as long as they may have to wait for their insert.
import type { Lag } from "./position.ts";
import type { Finding } from "./probe.ts";
import { keptText } from "./topics.ts";

const DAY_MS = 86_400_000;
const USED_WARN = 0.5;
const USED_FAIL = 0.8;

/** `settings` undefined: the standalone's log, which only removes what is stored. */
export function judgeRetention(lag: Lag, settings: ReadonlyMap<string, string> | undefined, nowMs: number): Finding {
  const lost = lag.partitions.find(({ partition, start }) => (lag.committed.get(partition) ?? start) < start);
  if (lost) {
    const next = lag.committed.get(lost.partition);
    const what = `partition ${lost.partition}: offset ${next} is next and the log begins at ${lost.start}: records were removed before they were stored`;
    return { status: "fail", what, fix: "`millrace verify` names the gap; docs/errors.md, 'A partition is halted'" };
  }
  if (!settings) return { status: "ok", what: "only what is stored is ever removed" };
  const kept = keptText(settings);
  const keptMs = Number(settings.get("retention.ms") ?? -1);
  const ageMs = lag.oldestMs === undefined ? 0 : Math.max(0, nowMs - lag.oldestMs);
  const longer = "raise retention.ms of the topic";
  if (keptMs >= 0 && ageMs > keptMs * USED_WARN) {
    const what = `records are kept ${kept} and the oldest that is not stored is ${(ageMs / 3_600_000).toFixed(1)} h old`;
    return {
      status: ageMs > keptMs * USED_FAIL ? "fail" : "warn",
      what,
      fix: `${longer} at once, then let the consumers catch up`,
    };
  }
  if (keptMs >= 0 && keptMs < DAY_MS) {
    return {
      status: "warn",
      what: `records are kept ${kept}: a longer outage of ClickHouse loses events`,
      fix: longer,
    };
  }
  if (Number(settings.get("retention.bytes") ?? -1) >= 0) {
    const what = `records are kept ${kept}: how long that is depends on the load`;
    return { status: "warn", what, fix: "set retention.bytes=-1, or make sure that it lasts for an outage" };
  }
  return { status: "ok", what: `records are kept ${kept}` };
}
