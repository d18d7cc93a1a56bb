// What a call of capture becomes: an event as it is sent, or the name of the counter that says why there is none.
import type { Ids } from "./identity.ts";
import { native } from "./native.ts";
import type { Options } from "./options.ts";
import { sanitize, UNREADABLE } from "./sanitize.ts";
import { VERSION } from "./transport.ts";
import type { AnalyticsEvent, CaptureOptions, Properties } from "./types.ts";
import { uuidv7 } from "./uuid.ts";

export interface Captured {
  name: string;
  properties: Properties;
  options: CaptureOptions;
  ids: Ids;
  registered: Properties;
  sessionId: string;
  windowId: string;
}

const LIB = "millrace-browser";
/** The server's limits; its limit of an event is a little higher. */
const NAME_BYTES_MAX = 200;
const ID_BYTES_MAX = 1024;
const EVENT_BYTES_MAX = 800_000;

export function makeEvent(
  captured: Captured,
  options: Options,
): { event: AnalyticsEvent; json: string } | "invalid" | "filtered" {
  const time = new Date(captured.options.timestamp ?? native.nowMs());
  if (Number.isNaN(Number(time))) return "invalid";
  const properties = sanitize(propertiesOf(captured, options), options.denied);
  const made = { uuid: uuidv7(), event: captured.name, properties, timestamp: time.toISOString() };
  const event = runHooks(made, options);
  if (!event) return "filtered";
  if (!isValid(event)) return "invalid";
  // Of a hook it may be any text that Date reads; the server takes fewer, and knows no zone of a browser.
  event.timestamp = new Date(event.timestamp).toISOString();
  const json = native.stringify(event);
  return fits(json, EVENT_BYTES_MAX) ? { event, json } : "invalid";
}

function propertiesOf({ properties, options, ids, registered, sessionId, windowId }: Captured, set: Options) {
  const identifying = { distinct_id: options.distinct_id ?? ids.distinctId, $device_id: ids.deviceId };
  // First as well as last: what is over the limits is cut at the end.
  const all: Properties = {
    ...identifying,
    ...registered,
    $session_id: sessionId,
    $window_id: windowId,
    $lib: LIB,
    $lib_version: VERSION,
    $configured_session_timeout_ms: set.sessionTimeoutMs,
    ...copyOf(properties),
    ...identifying,
  };
  if (options.$set) all.$set = options.$set;
  if (options.$set_once) all.$set_once = options.$set_once;
  return all;
}

/** Read one by one: a getter that throws loses its value, not the event. */
function copyOf(properties: Properties): Properties {
  const copy: Properties = {};
  try {
    for (const key of Object.keys(properties ?? {})) {
      try {
        copy[key] = properties[key];
      } catch {
        copy[key] = UNREADABLE;
      }
    }
  } catch {
    // A proxy that does not even say what it has.
  }
  return copy;
}

/** Undefined when a hook drops the event. The result is as plain as what went in, without the denied properties. */
function runHooks(event: AnalyticsEvent, { beforeSend, denied }: Options): AnalyticsEvent | undefined {
  if (beforeSend.length === 0) return event;
  let current = event;
  for (const hook of beforeSend) {
    try {
      const next = hook(current);
      if (!next) return undefined;
      current = next;
    } catch {
      // It may be the one that removes what must not be sent.
      return undefined;
    }
  }
  const properties = sanitize(current.properties ?? {}, denied);
  return { uuid: event.uuid, event: current.event, properties, timestamp: current.timestamp };
}

function isValid({ event, properties: { distinct_id }, timestamp }: AnalyticsEvent): boolean {
  if (!isText(event, NAME_BYTES_MAX) || !isText(distinct_id, ID_BYTES_MAX)) return false;
  return typeof timestamp === "string" && !Number.isNaN(Date.parse(timestamp));
}

function isText(value: unknown, bytesMax: number): boolean {
  return typeof value === "string" && value.trim() !== "" && fits(value, bytesMax);
}

/** Few texts have to be measured: a character has three bytes at most. */
function fits(text: string, bytesMax: number): boolean {
  return text.length * 3 <= bytesMax || new native.Blob([text]).size <= bytesMax;
}
