// Counts requests that are refused, and keeps of their events what a caller may be told who asks for one later.
import type { RefusedEvents } from "#lib/ledger/refused-events.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { REFUSALS, type Refused } from "./refusals.ts";

export type NoteRefused = (error: Refused) => void;

/** Their events are counted one by one, here or by ingest. */
const BY_EVENT = new Set(["content", "size"]);

export function createNoteRefused(metrics: GatewayMetrics, events: Pick<RefusedEvents, "note">): NoteRefused {
  return ({ refusal, faults }) => {
    const { metric } = REFUSALS[refusal];
    metrics.refused.inc({ reason: metric });
    for (const { fault: reason, field, of } of faults) {
      events.note({ id: of?.id ?? "", event: of?.event ?? "", reason, field, retryable: false });
    }
    if (!BY_EVENT.has(metric)) events.note({ id: "", event: "", reason: metric, field: "", retryable: true });
  };
}
