// Items of `got` lines to records.
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { encodePoint } from "#lib/events/point-record.ts";
import { parseItem } from "#lib/relay-protocol/items.ts";
import type { Collectors } from "./collectors.ts";
import type { RejectReason, RelayMetrics } from "./metrics.ts";

export interface PointSource {
  relayId: string;
  /** The relay id's bytes: a host's points stay in one partition. */
  key: Uint8Array;
  collectors: Pick<Collectors, "tagsOf">;
}

export interface PointsOptions {
  /** 16 random bytes of this process. */
  bootId: Uint8Array;
  nowMs(): number;
  metrics: Pick<RelayMetrics, "received" | "rejected">;
  add(records: AppendRecord[]): void;
}

/** A line with more is no measurement; encoding it would hold everybody else up. */
const ITEMS_MAX = 2_000;

/** What a number written with a decimal comma leaves behind it. No item begins so: it has no colon. */
const FRACTION = /^\s*\d[^:]*$/;

/** Takes what follows the word `got`: good items become points, each other one is counted and costs only itself. */
export function createPoints({ bootId, nowMs, metrics, add }: PointsOptions) {
  let sequence = 0;

  return (source: PointSource, text: string): void => {
    const receivedUs = Math.round(nowMs() * 1000);
    const items = text.split(",");
    const records: AppendRecord[] = [];
    const reject = (reason: RejectReason, count = 1) => metrics.rejected.inc({ reason }, count);
    for (const [i, each] of items.slice(0, ITEMS_MAX).entries()) {
      // Of 1,5 neither 1 nor 5 is what was measured.
      const isCut = FRACTION.test(items[i + 1] ?? "") || (i > 0 && FRACTION.test(each));
      const item = isCut ? "decimal_comma" : parseItem(each);
      if (typeof item === "string") {
        reject(item);
        continue;
      }
      const { collector, name: metric, value } = item;
      const tags = source.collectors.tagsOf(collector);
      const { relayId, key } = source;
      const times = { timeUs: receivedUs, receivedUs };
      const point = { bootId, sequence: sequence++, metric, value, tags, ...times, relayId, collector };
      records.push({ key, value: encodePoint(point) });
    }
    if (items.length > ITEMS_MAX) reject("too_many", items.length - ITEMS_MAX);
    metrics.received.inc(records.length);
    if (records.length > 0) add(records);
  };
}
