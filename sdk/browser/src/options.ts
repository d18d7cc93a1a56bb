// Options of `init`, checked and filled in with defaults.
import type { AutocaptureConfig, BeforeSend, InitOptions } from "./types.ts";

/** As given, with the defaults. */
export interface Options
  extends Required<
    Pick<
      InitOptions,
      "flushAt" | "flushIntervalMs" | "maxQueueSize" | "persistence" | "requestBatching" | "requestTimeoutMs"
    >
  > {
  /** Without slashes at its end. */
  apiHost: string;
  apiKey: string | undefined;
  pageviews: NonNullable<InitOptions["capturePageview"]>;
  pageleaves: boolean;
  autocapture: AutocaptureConfig | undefined;
  sessionTimeoutMs: number;
  beforeSend: BeforeSend[];
  denied: ReadonlySet<string>;
  transport: InitOptions["transport"];
  /** Whether anything may be left on the device. */
  isStored: boolean;
}

/** What a timer can hold. */
const MS_MAX = 2 ** 31 - 1;

/** Throws when apiHost is missing. Invalid numbers, and those below 1, count as not given. */
export function readOptions(given: InitOptions): Options {
  const apiHost = typeof given?.apiHost === "string" ? given.apiHost.trim().replace(/\/+$/, "") : "";
  if (apiHost === "") throw new Error("apiHost is required");
  const pageviews = given.capturePageview ?? true;
  const pageleaves = given.capturePageleave ?? "if_capture_pageview";
  const { autocapture, persistence = "localStorage+cookie" } = given;
  return {
    apiHost,
    apiKey: given.apiKey?.trim() || undefined,
    pageviews,
    pageleaves: pageleaves === "if_capture_pageview" ? pageviews !== false : pageleaves,
    autocapture: autocapture === true ? {} : autocapture || undefined,
    requestBatching: given.requestBatching ?? true,
    flushAt: positive(given.flushAt, 20),
    flushIntervalMs: Math.min(5000, Math.max(250, numberOf(given.flushIntervalMs, 3000))),
    requestTimeoutMs: Math.min(positive(given.requestTimeoutMs, 10_000), MS_MAX),
    maxQueueSize: positive(given.maxQueueSize, 1000),
    sessionTimeoutMs: positive(given.sessionTimeoutMs, 30 * 60_000),
    persistence,
    beforeSend: [given.beforeSend ?? []].flat(),
    // A single name in plain JavaScript would be taken for its letters.
    denied: new Set([given.propertyDenylist ?? []].flat()),
    transport: given.transport,
    isStored: persistence !== "memory" && !given.disablePersistence,
  };
}

function positive(value: number | undefined, otherwise: number): number {
  return numberOf(value, 0) >= 1 ? (value as number) : otherwise;
}

/** Not NaN, of which a timer makes no time at all: a server that is away would be asked without a pause. */
function numberOf(value: number | undefined, otherwise: number): number {
  return typeof value === "number" && !Number.isNaN(value) ? value : otherwise;
}
