// The rules of an event, the same for every dialect. Pure: no clock, no I/O, no settings but those passed in.
import { isNoUuid, parseUuid } from "./ids.ts";
import type { EventLimits } from "./limits.ts";
import { createPropertiesReader, type PropertiesInput, type PropertiesReader } from "./properties.ts";
import type { LogEvent } from "./record.ts";
import { fault, type RuleFault } from "./rule-fault.ts";
import { clampEventTime } from "./time.ts";

/** An event as a dialect has read it: types are right, nothing else is known. */
export interface EventInput {
  /** "", a UUID, or its 16 bytes. */
  id: string | Uint8Array;
  event: string;
  distinctId: string;
  source: string;
  value: number | undefined;
  /** Undefined: the receive time. */
  time: EventTime | undefined;
  properties: PropertiesInput;
}

export interface EventTime {
  us: number;
  /** By how much the caller's clock is behind ours, where it needs correction: the event happened that much later. */
  skewUs?: number;
  /** As the caller gave it; asked for only when the time has to be moved. */
  text(): string;
}

const scanning = createPropertiesReader();

/** What the gateway knows of the request. */
export interface RequestFacts {
  receivedUs: number;
  apiKey: string;
  ip: string;
  userAgent: string;
  checkStored: boolean;
  /** A secret key and no Origin. Absent: not trusted. */
  trusted?: boolean;
}

/** How a dialect spells the fields in its errors. */
export interface FieldNames {
  id: string;
  event: string;
  distinctId: string;
  source: string;
  value: string;
  properties: string;
}

/**
 * Checks one event and completes it: id, event time, lifted properties. An unpaired surrogate in a string is stored as
 * U+FFFD, which is what encoding it as UTF-8 makes of it.
 */
export function checkEvent(
  input: EventInput,
  facts: RequestFacts,
  names: FieldNames,
  limits: EventLimits,
  newId: () => Uint8Array,
  reader: PropertiesReader = scanning,
): LogEvent | RuleFault {
  const text = checkTexts(input, names, limits);
  if (text) return text;
  const given = typeof input.id !== "string" || input.id === "" ? input.id : parseUuid(input.id);
  if (given === undefined)
    return fault("invalid", names.id, `must be a UUID like 0192f0c1-2345-7abc-8def-0123456789ab`);
  if (input.value !== undefined && !Number.isFinite(input.value)) {
    return fault("invalid", names.value, `must be a finite number, not ${input.value}`);
  }
  const properties = reader.check(input.properties, names.properties, limits);
  if ("fault" in properties) return properties;
  // A zero is what stands in the place of an id, and the same for everybody.
  const id = given === "" || isNoUuid(given) ? undefined : given;
  const timeUs = input.time === undefined ? facts.receivedUs : storedTime(input.time, facts.receivedUs);
  const { lifted } = properties;
  return {
    id: id ?? newId(),
    idFromCaller: id !== undefined,
    event: input.event,
    distinctId: input.distinctId,
    source: input.source,
    value: input.value,
    timeUs,
    receivedUs: facts.receivedUs,
    propertiesJson: properties.json,
    checkStored: facts.checkStored,
    originalTime: input.time === undefined || timeUs === input.time.us ? "" : input.time.text(),
    apiKey: facts.apiKey,
    ip: facts.ip,
    userAgent: facts.userAgent,
    sessionId: lifted.sessionId,
    windowId: lifted.windowId,
    elementsChain: lifted.elementsChain,
    currentUrl: lifted.currentUrl,
    host: lifted.host,
    anonDistinctId: lifted.anonDistinctId,
    deviceId: lifted.deviceId,
    trusted: facts.trusted === true,
  };
}

/** A correction that leads out of the bounds comes from a clock that is not to be believed, and is not applied. */
function storedTime({ us, skewUs = 0 }: EventTime, receivedUs: number): number {
  const corrected = us + skewUs;
  return clampEventTime(corrected, receivedUs) === corrected ? corrected : clampEventTime(us, receivedUs);
}

function checkTexts(input: EventInput, names: FieldNames, limits: EventLimits): RuleFault | undefined {
  if (input.event.trim() === "") return fault("missing", names.event, "must not be blank: it is the event's name");
  return (
    tooLong(input.event, names.event, limits.eventNameBytes) ??
    tooLong(input.distinctId, names.distinctId, limits.distinctIdBytes) ??
    tooLong(input.source, names.source, limits.sourceBytes)
  );
}

function tooLong(value: string, field: string, maxBytes: number): RuleFault | undefined {
  if (value.length * 3 <= maxBytes) return undefined;
  const bytes = Buffer.byteLength(value);
  if (bytes <= maxBytes) return undefined;
  return fault("too_large", field, `has ${bytes} bytes; at most ${maxBytes} are allowed`);
}

/**
 * Routing key: events of one device stay in one partition, in order, before and after its user is known
 * (docs/design.md, invariant 2).
 */
export function routingKey(event: LogEvent): Buffer {
  const text = event.deviceId || event.anonDistinctId || event.distinctId;
  return text === "" ? Buffer.from(event.id) : Buffer.from(text);
}
