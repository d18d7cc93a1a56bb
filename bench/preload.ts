// A topic full of events for the consumer to drain.
import type { AppendRecord, OpenLog } from "#lib/eventlog/log.ts";
import { createUuidV7 } from "#lib/events/ids.ts";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { createRecordEncoder } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { checkEvent, routingKey } from "#lib/events/validate.ts";
import { propertiesText } from "./requests.ts";

const NAMES = {
  id: "id",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "p",
};
const RECORDS_PER_APPEND = 10_000;

/** Puts events on the log as a gateway would have; `idOf` makes the ids of callers that make their own. */
export async function preload(
  log: OpenLog,
  count: number,
  signal: AbortSignal,
  idOf: (n: number) => string = () => "",
): Promise<void> {
  const encode = createRecordEncoder();
  const newId = createUuidV7();
  const facts = { receivedUs: Date.now() * 1000, apiKey: "", ip: "127.0.0.1", userAgent: "bench", checkStored: false };
  for (let first = 0; first < count; first += RECORDS_PER_APPEND) {
    signal.throwIfAborted();
    const records: AppendRecord[] = [];
    for (let n = first; n < Math.min(count, first + RECORDS_PER_APPEND); n++) {
      const input = {
        id: idOf(n),
        event: "page_view",
        distinctId: `user_${n % 5000}`,
        source: "web",
        value: n,
        time: undefined,
        properties: propertiesText,
      };
      const event = checkEvent(input, facts, NAMES, DEFAULT_LIMITS, newId);
      if ("fault" in event) throw new Error(`the bench's own event is refused: ${event.message}`);
      records.push({ key: routingKey(event), value: encode(event) });
    }
    await log.append(EVENTS_TOPIC, records);
  }
}
