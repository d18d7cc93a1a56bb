// The body of a Segment request: one message, or an envelope of several that are each judged for themselves.

import { parseUuid, uuidV5 } from "#lib/events/ids.ts";
import type { JsonKind } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { articled } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { parseDateText, parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime, RequestFacts } from "#lib/events/validate.ts";
import { faultError, type JsonReading, readJsonBody } from "../json-body.ts";
import { refused } from "../refusals.ts";
import { type Message, type MessageType, readMessage } from "./segment-message.ts";

/** Within which a key's message ids are UUIDs. */
const NAMESPACE = parseUuid("f06a844b-030a-4022-a9cf-e55997783048") as Uint8Array;

const ENVELOPE = new JsonNames(["batch", "writeKey", "sentAt"]);
const [BATCH, WRITE_KEY, SENT_AT] = [0, 1, 2];

export interface SegmentBody {
  /** As many as one request may have, invalid ones as what is wrong with them. */
  messages: readonly (Message | RuleFault)[];
  /** How many there are. */
  length: number;
  writeKey: string;
  /** Of the envelope. */
  sentAt: string;
}

/** Throws Refused for bytes that are not JSON. */
export function readOne(json: JsonReading, body: Uint8Array, type: MessageType | undefined): SegmentBody {
  const { message, writeKey } = readJsonBody(json.cursor, body, 0, () => readMessage(json, type));
  return { messages: [message], length: 1, writeKey, sentAt: "" };
}

/** Throws Refused for bytes that are not JSON, and for an envelope without messages. */
export function readBatch(json: JsonReading, body: Uint8Array, maxMessages: number): SegmentBody {
  return readJsonBody(json.cursor, body, 0, () => readEnvelope(json, maxMessages));
}

function readEnvelope(json: JsonReading, maxMessages: number): SegmentBody {
  const { cursor } = json;
  const kind = cursor.kind();
  if (kind !== "object") throw wrong("body", "an object with a batch of messages", kind);
  const root = cursor.position();
  const messages: (Message | RuleFault)[] = [];
  const read: SegmentBody = { messages, length: 0, writeKey: "", sentAt: "" };
  let batch: JsonKind | "absent" = "absent";
  cursor.enter();
  while (cursor.nextMember(ENVELOPE)) {
    const { name } = cursor;
    const valueKind = cursor.kind();
    if (name === BATCH && valueKind === "array") {
      const broken = cursor.takeFault(root);
      if (broken) throw faultError(broken);
      cursor.enter();
      while (cursor.nextItem()) {
        if (read.length++ < maxMessages) messages.push(readMessage(json, undefined).message);
        else cursor.skip();
      }
    } else if (name === WRITE_KEY && valueKind === "string") read.writeKey = cursor.text();
    else if (name === SENT_AT && valueKind === "string") read.sentAt = cursor.text();
    else cursor.skip();
    if (name === BATCH) batch = valueKind;
  }
  const broken = cursor.takeFault(root);
  if (broken) throw faultError(broken);
  if (batch !== "array") throw wrong("batch", "an array of messages", batch);
  return read;
}

/**
 * Ids and times, which are made of more than the message. Where `isSentAtRead`, a clock that is wrong is corrected as
 * Segment does it: the event is as much older than the request's arrival as its time is than `sentAt`.
 */
export function eventsOf(
  { messages, sentAt }: SegmentBody,
  { apiKey, receivedUs }: Pick<RequestFacts, "apiKey" | "receivedUs">,
  isSentAtRead: boolean,
): (EventInput | RuleFault)[] {
  const sentUs = isSentAtRead ? parseRfc3339(sentAt) : undefined;
  return messages.map((message) => {
    if ("fault" in message) return message;
    const { event, distinctId, messageId, timestamp, isFinal, properties } = message;
    const ownSentUs = isSentAtRead && message.sentAt !== "" ? parseRfc3339(message.sentAt) : sentUs;
    const time = timeOf(timestamp, ownSentUs === undefined || isFinal ? 0 : receivedUs - ownSentUs);
    if (time && "fault" in time) return time;
    const id = messageId === "" ? "" : uuidV5(NAMESPACE, `${apiKey} ${messageId}`);
    return { id, event, distinctId, source: "", value: undefined, time, properties };
  });
}

function timeOf(text: string, skewUs: number): EventTime | RuleFault | undefined {
  if (text === "") return undefined;
  const us = parseDateText(text);
  if (us !== undefined) return { us, skewUs, text: () => text };
  const shown = JSON.stringify(text.slice(0, 40));
  const remedy = 'write it like "2026-03-27T12:00:00Z" or leave it out';
  return fault("invalid", "timestamp", `${shown} cannot be read as a time; ${remedy}`);
}

function wrong(field: string, wanted: string, kind: JsonKind | "absent") {
  return refused("invalid", { field, fault: `must be ${wanted}, not ${kind === "absent" ? kind : articled(kind)}` });
}
