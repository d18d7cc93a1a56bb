// Receipts in words: what happened to an event, and what can be done. Names of callers are in them as they are.
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Receipt, ReceiptState, type Sighting } from "#gen/millrace/stats/v1/receipts_pb.ts";
import type { Asked } from "./asked.ts";

const NAME_CHARS_MAX = 80;

export function receiptText(receipt: Receipt, asked: Asked): string {
  const [first, ...others] = receipt.sightings;
  if (first) return [sightingText(first), ...othersText(others)].join(" ");
  const { state, gaps, refusals, since } = receipt;
  const refusal = refusals[0];
  if (state === ReceiptState.REFUSED && refusal) {
    const where = refusal.field === "" ? "" : `, field ${cut(refusal.field)}`;
    const name = refusal.event === "" ? "" : ` (${cut(refusal.event)})`;
    const remedy = refusal.retryable ? "Send it again with the same id." : "Correct it and send it again.";
    return `Refused at ${timeText(refusal.time)}${name}: ${refusal.reason}${where}. It never reached the log. ${remedy}`;
  }
  if (state === ReceiptState.UNKNOWN) return `Not found, which does not mean that it is lost: ${gaps.join("; ")}.`;
  if (asked.kind === "position") return "Nothing was ever written at this position: the log ends before it.";
  const beside = gaps.length > 0 ? ` Beside that: ${gaps.join("; ")}.` : "";
  if (since === undefined) return `Never seen: no event is stored yet, none waits on the log.${beside}`;
  return `Never seen since ${timeText(since)}: it is not stored, does not wait on the log, and was not refused lately.${beside}`;
}

function sightingText(sighting: Sighting): string {
  const at = sighting.position?.name ?? "";
  const { event, waiting, letter, first } = sighting;
  const name = event ? ` ${cut(event.event)}${event.distinctId === "" ? "" : ` of ${cut(event.distinctId)}`},` : "";
  switch (sighting.state) {
    case ReceiptState.STORED: {
      const latency = sighting.latency && Number(sighting.latency.seconds) + sighting.latency.nanos / 1e9;
      const stored = latency === undefined ? "" : `, stored ${latency.toFixed(1)} s later`;
      return `Stored:${name} position ${at}, received ${timeText(sighting.received)}${stored}.`;
    }
    case ReceiptState.WAITING: {
      const ahead = waiting?.recordsAhead ?? 0n;
      const others = ahead === 0n ? "It is the next to be stored" : `${ahead} records are before it`;
      return `Waiting:${name} durable on the log at ${at} since ${timeText(sighting.appended)}. ${others}. ${waiting?.reason ?? ""}`;
    }
    case ReceiptState.DUPLICATE:
      return `Duplicate: ${at} repeats the event at ${first?.name ?? "an earlier position"}, which is stored. Nothing is lost.`;
    case ReceiptState.CONFLICT:
      return `Conflict: ${at} has the id of the event at ${first?.name ?? "an earlier position"} and says something else. It was not stored: send it again with an id of its own.`;
    case ReceiptState.DEAD_LETTER:
      return `Dead letter: ${at} could not be stored (${letter?.errorClass}${letter?.reason ? `: ${letter.reason.slice(0, 500)}` : ""}). Its bytes are kept; once the cause is gone: ${letter?.replay}`;
    case ReceiptState.ERASED:
      return `Erased: ${at} was deleted with its person (erasure ${sighting.erasureId}).`;
    default:
      return `Lost: ${at} was missing, could not be recovered, and was given up with \`millrace verify --accept-lost\`.`;
  }
}

function othersText(others: readonly Sighting[]): string[] {
  const counted = (state: ReceiptState) => others.filter((each) => each.state === state);
  const [duplicates, conflicts, letters] = [
    ReceiptState.DUPLICATE,
    ReceiptState.CONFLICT,
    ReceiptState.DEAD_LETTER,
  ].map(counted);
  const times = (n: number) => (n === 1 ? "once" : `${n} times`);
  return [
    ...(duplicates?.length ? [`Sent again ${times(duplicates.length)}, stored once.`] : []),
    ...(conflicts?.[0]
      ? [
          `Its id came again ${times(conflicts.length)} with other contents, which were not stored: ${conflicts[0].position?.name}.`,
        ]
      : []),
    ...(letters?.[0] ? [`A dead letter has its id as well: ${letters[0].position?.name}.`] : []),
  ];
}

function cut(text: string): string {
  return text.length > NAME_CHARS_MAX ? `${text.slice(0, NAME_CHARS_MAX)}…` : text;
}

function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "at an unknown time" : new Date(timestampMs(time)).toISOString();
}
