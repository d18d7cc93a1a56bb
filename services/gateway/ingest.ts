// The story of a request, whatever its dialect: check each event, encode it, append it, say what became of it.
import type { AppendRecord, Position } from "#lib/eventlog/log.ts";
import { RecordTooLargeError } from "#lib/eventlog/log.ts";
import { createUuidV7, formatUuid } from "#lib/events/ids.ts";
import type { EventLimits } from "#lib/events/limits.ts";
import { createRecordEncoder, decodeRecord, type LogEvent } from "#lib/events/record.ts";
import type { RuleCode, RuleFault } from "#lib/events/rule-fault.ts";
import { isClamped } from "#lib/events/time.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { checkEvent, type EventInput, type FieldNames, type RequestFacts, routingKey } from "#lib/events/validate.ts";
import type { RefusedEvents } from "#lib/ledger/refused-events.ts";
import type { EventNames } from "./event-names.ts";
import type { FailedRange, GroupCommit, OnDurable } from "./group-commit.ts";
import type { JsonReading } from "./json-body.ts";
import type { GatewayMetrics } from "./metrics.ts";

/** Why one event is not stored. `unavailable` may be sent again unchanged, the rules' codes may not. */
export interface Rejection {
  index: number;
  code: RuleCode | "unavailable";
  field: string;
  message: string;
  retryable: boolean;
}

export interface Verdict {
  /** Events that are durable. */
  accepted: number;
  /** All others, by index. */
  rejected: Rejection[];
  /** Where they asked for it, the place of each event of the request, "" for one that is rejected. */
  positions?: string[];
}

/** Every event that passed the rules met an event log that did not take it: the whole request may be sent again. */
export class IngestUnavailableError extends Error {
  override readonly name = "IngestUnavailableError";
  /** All events, those that broke a rule included. */
  readonly rejected: readonly Rejection[];

  constructor(rejected: readonly Rejection[], cause: unknown) {
    super("the event log is unavailable; send the request again with the same ids", { cause });
    this.rejected = rejected;
  }
}

export interface IngestRequest {
  /** Events as the dialect read them; a RuleFault where it could not. */
  events: readonly (EventInput | RuleFault)[];
  names: FieldNames;
  facts: RequestFacts;
  dialect: string;
  traceparent: string | undefined;
  /** Hears where durable events are, part by part, before `publish` resolves. */
  onDurable?: OnDurable;
  /** Has the verdict say where each event is. */
  wantsPositions?: boolean;
}

export interface Ingest {
  /** Rejects with IngestUnavailableError when events were valid and none of them is known to be durable. */
  publish(request: IngestRequest): Promise<Verdict>;
}

/** What has become of a request's events before any of them is appended. */
interface Draft {
  records: AppendRecord[];
  /** Of each record's event. */
  indexOf: number[];
  rejected: Rejection[];
}

export function createIngest(
  groupCommit: GroupCommit,
  { limits, properties }: JsonReading,
  metrics: GatewayMetrics,
  eventNames: EventNames,
  refusedEvents: Pick<RefusedEvents, "note">,
): Ingest {
  const newId = createUuidV7();
  const encode = createRecordEncoder();

  function draftOf({ events, names, facts, traceparent }: IngestRequest): Draft {
    const draft: Draft = { records: [], indexOf: [], rejected: [] };
    let clamped = 0;
    for (let index = 0; index < events.length; index++) {
      const input = events[index] as EventInput | RuleFault;
      const checked = "fault" in input ? input : checkEvent(input, facts, names, limits, newId, properties);
      if ("fault" in checked) {
        reject(draft, ruleRejection(index, checked), input);
        continue;
      }
      if (checked.originalTime !== "" && isClamped(checked.timeUs, facts.receivedUs)) clamped++;
      const record = toRecord(checked, traceparent);
      if (record.value.length + record.key.length > limits.eventBytes) {
        reject(draft, tooLargeRejection(index, record, limits), input);
        continue;
      }
      eventNames.note(facts.apiKey, checked.event);
      draft.records.push(record);
      draft.indexOf.push(index);
    }
    metrics.clampedTimes.inc(clamped);
    return draft;
  }

  /**
   * Its events are records when it returns, and nothing here keeps them: what waits for the log survives collections of
   * garbage, and that was a third of what an event cost.
   */
  function publish(request: IngestRequest): Promise<Verdict> {
    const { dialect, onDurable } = request;
    const positions = request.wantsPositions ? request.events.map(() => "") : undefined;
    return append(draftOf(request), dialect, onDurable, positions);
  }

  async function append(
    draft: Draft,
    dialect: string,
    onDurable: OnDurable | undefined,
    positions: string[] | undefined,
  ): Promise<Verdict> {
    const { records, indexOf } = draft;
    const notePositions: OnDurable = (found, indexes) => {
      onDurable?.(found, indexes);
      if (!positions) return;
      for (const [at, position] of found.entries()) {
        positions[indexOf[indexes[at] as number] as number] = positionText(position);
      }
    };
    const failed = await groupCommit.submit(records, positions ? notePositions : onDurable);
    const verdict = { ...settle(draft, failed), ...(positions && { positions }) };
    metrics.countVerdict(dialect, verdict);
    for (const { from, to, error } of failed) {
      for (let at = from; at < to; at++) noteFailed(appendRejection(indexOf[at] as number, error), records[at]);
    }
    if (
      records.length > 0 &&
      verdict.accepted === 0 &&
      failed.every((f) => !(f.error instanceof RecordTooLargeError))
    ) {
      throw new IngestUnavailableError(verdict.rejected, failed[0]?.error);
    }
    return verdict;
  }

  function reject({ rejected }: Draft, rejection: Rejection, input: EventInput | RuleFault): void {
    rejected.push(rejection);
    const { id = "", event = "" } = ("fault" in input ? input.of : input) ?? {};
    noteRefused(rejection, typeof id === "string" ? id : formatUuid(id), event);
  }

  function noteFailed(rejection: Rejection, record: AppendRecord | undefined): void {
    if (!record) return;
    const { id, idFromCaller, event } = decodeRecord(record.value);
    noteRefused(rejection, idFromCaller ? formatUuid(id) : "", event);
  }

  /** So that a caller who asks for the event later is told. */
  function noteRefused({ code: reason, field, retryable }: Rejection, id: string, event: string): void {
    refusedEvents.note({ id, event, reason, field, retryable });
  }

  function toRecord(event: LogEvent, traceparent: string | undefined): AppendRecord {
    return { key: routingKey(event), value: encode(event), traceparent };
  }

  return { publish };
}

function settle({ records, indexOf, rejected }: Draft, failed: FailedRange[]): Verdict {
  let accepted = records.length;
  for (const { from, to, error } of failed) {
    accepted -= to - from;
    for (let i = from; i < to; i++) rejected.push(appendRejection(indexOf[i] as number, error));
  }
  if (failed.length > 0) rejected.sort((a, b) => a.index - b.index);
  return { accepted, rejected };
}

/** Without the epoch, which a gateway need not know: it is the one of now. */
function positionText({ partition, offset }: Position): string {
  return `${EVENTS_TOPIC}:${partition}:${offset}`;
}

function ruleRejection(index: number, found: RuleFault): Rejection {
  return { index, code: found.fault, field: found.field, message: found.message, retryable: false };
}

function tooLargeRejection(index: number, record: AppendRecord, limits: EventLimits): Rejection {
  const bytes = record.value.length + record.key.length;
  const message = `has ${bytes} bytes as stored; one event may have ${limits.eventBytes}`;
  return { index, code: "too_large", field: "event", message, retryable: false };
}

function appendRejection(index: number, error: Error): Rejection {
  if (error instanceof RecordTooLargeError) {
    return { index, code: "too_large", field: "event", message: error.message, retryable: false };
  }
  const message = "the event log did not take the event; send it again with the same id";
  return { index, code: "unavailable", field: "", message, retryable: true };
}
