// The types that callers of the package see.

export type Properties = Record<string, unknown>;

export interface AnalyticsEvent {
  /** Made once, at capture: every way an event is sent again carries the same, and the server stores it once. */
  uuid: string;
  event: string;
  properties: Properties;
  /** ISO 8601. */
  timestamp: string;
}

/** Changes an event before it is queued, or returns something falsy to drop it. One that throws drops it as well. */
export type BeforeSend = (event: AnalyticsEvent) => AnalyticsEvent | false | null | undefined;

export type TransportName = "fetch" | "sendBeacon";

export interface TransportPayload {
  api_key?: string;
  /** The clock by which the timestamps were read, so that the server can correct both. */
  sent_at: string;
  /** Some of the batch may have arrived so long ago that the server would not know its ids without looking. */
  check_stored?: true;
  batch: AnalyticsEvent[];
}

/**
 * Takes the place of fetch and beacon. Reject to have the batch sent again; an error with a numeric `status` is treated
 * as that HTTP answer, and its `retryAfterMs` is honoured.
 */
export type Transport = (
  url: string,
  payload: TransportPayload,
  options: { timeoutMs: number; transport?: TransportName; compression?: boolean },
) => Promise<void>;

export interface CaptureOptions {
  /** Default now. */
  timestamp?: Date;
  /** Sends the queue at once instead of with the next batch. */
  send_instantly?: boolean;
  /** Sends the queue at once, this way. */
  transport?: TransportName;
  /** In place of the current distinct id, for this event alone. */
  distinct_id?: string;
  $set?: Properties;
  $set_once?: Properties;
}

export interface AutocaptureConfig {
  /** Sends the text of clicked elements as well, up to 256 characters, never that of form fields. Default false. */
  captureText?: boolean;
  /** Tag names; default all that can be clicked or filled in. */
  elementAllowlist?: string[];
  cssSelectorAllowlist?: string[];
  /** Texts that the address must contain, or expressions that it must match. */
  urlAllowlist?: (string | RegExp)[];
  urlIgnorelist?: (string | RegExp)[];
  domEventAllowlist?: ("click" | "change" | "submit")[];
}

export interface InitOptions {
  /** Where the gateway is, like `https://events.example.com`; events go to `<apiHost>/batch/`. */
  apiHost: string;
  /** Default none: the server then knows the page by its origin. */
  apiKey?: string;
  /** `true`: one at init. `"history_change"`: also whenever the address changes without a page load. Default true. */
  capturePageview?: boolean | "history_change";
  /** Default `"if_capture_pageview"`. */
  capturePageleave?: boolean | "if_capture_pageview";
  /** Default false. */
  autocapture?: boolean | AutocaptureConfig;
  /** False sends every event at once. Default true. */
  requestBatching?: boolean;
  /** Events that wait before a batch is sent without waiting longer. Default 20. */
  flushAt?: number;
  /** Milliseconds, 250 to 5000. Default 3000. */
  flushIntervalMs?: number;
  /** Default 10000. */
  requestTimeoutMs?: number;
  /** Events kept while the server is away; the oldest go first. Default 1000. */
  maxQueueSize?: number;
  /** Milliseconds without an event after which the next one starts a new session. Default 1800000. */
  sessionTimeoutMs?: number;
  /** Default `"localStorage+cookie"`: localStorage, else a cookie, else memory. */
  persistence?: "localStorage" | "localStorage+cookie" | "memory";
  /** Leaves nothing on the device, as `persistence: "memory"` does. Default false. */
  disablePersistence?: boolean;
  beforeSend?: BeforeSend | BeforeSend[];
  /** Property names removed from every event, at any depth. */
  propertyDenylist?: string[];
  transport?: Transport;
}

/** Events since init, in this page. Each captured event ends in one of them, or is still queued. */
export interface Counters {
  captured: number;
  /** Answered by the server. */
  sent: number;
  queued: number;
  /** Dropped, oldest first, because maxQueueSize or 4 MB of events were waiting. */
  overflow: number;
  /** Refused by the server for good (4xx other than 408 and 429), or counted as dropped in its answer. */
  rejected: number;
  /** Dropped by beforeSend. */
  filtered: number;
  /** Without a name or with one over 200 bytes, a distinct id over 1,024 bytes, an event over 800,000 bytes. */
  invalid: number;
}
