// Every wire over plain HTTP in one table: its paths, what browsers are told, who may call and what a body may look like.
// Routes, edge, OpenAPI and docs/wires.md are held against it.
import { REPLAY_PATH } from "#lib/events/replay-request.ts";
import { BATCH_CORS, type CorsRules, POSTHOG_CORS, SEGMENT_CORS } from "#lib/http/cors.ts";
import { REFUSED_PATH } from "#lib/ledger/refused-events.ts";
import { BROWSER_FORM, JSON_FORM } from "./body-form.ts";
import type { EntryRules } from "./edge.ts";

export interface WireRules extends Omit<EntryRules, "access"> {
  /** As they are, or with parts in braces: `/array/{key}/config`. A part matches what has no slash, and not nothing. */
  readonly paths: readonly string[];
  /** `anyone`: the wire asks for no entry, reads no body and stores nothing. */
  readonly access: EntryRules["access"] | "anyone";
  /** Absent: browsers are told nothing. */
  readonly cors?: CorsRules;
  /** Its requests are spans of traces. */
  readonly isTraced?: boolean;
}

const POSTHOG = { cors: POSTHOG_CORS, keys: { query: ["api_key", "token"] } } as const;
/** RudderStack's Node client names a form and sends JSON; analytics.js names text, which browsers do not ask about first. */
const SEGMENT_FORM = { types: ["application/json", "text/plain", "application/x-www-form-urlencoded", ""] } as const;
const SEGMENT_ENTRY = {
  access: "body key",
  needsKey: true,
  keys: { headers: ["x-write-key"] },
  form: SEGMENT_FORM,
  cors: SEGMENT_CORS,
  isTraced: true,
} as const;

export const WIRES = {
  events: {
    ...{ dialect: "events", paths: ["/events", "/events/"], cors: BATCH_CORS, isTraced: true },
    ...{ access: "key", form: JSON_FORM },
  },
  batch: {
    ...{ dialect: "batch", paths: ["/batch/"], cors: BATCH_CORS, isTraced: true },
    ...{ access: "body key", alwaysAsks: true, form: JSON_FORM },
  },
  posthog: {
    ...POSTHOG,
    ...{ dialect: "posthog", access: "body key", form: BROWSER_FORM, isTraced: true },
    paths: [
      ...["/e/", "/e", "/i/v0/e/", "/i/v0/e", "/capture/", "/capture", "/track/", "/track"],
      ...["/engage/", "/engage", "/batch"],
    ],
  },
  posthogV1: {
    ...{ dialect: "posthog-v1", paths: ["/i/v1/analytics/events", "/i/v1/analytics/events/"], cors: POSTHOG_CORS },
    ...{ access: "key", form: JSON_FORM, isTraced: true },
  },
  posthogFlags: {
    ...POSTHOG,
    ...{ dialect: "posthog-flags", access: "body key", form: BROWSER_FORM },
    paths: ["/flags/", "/flags", "/decide/", "/decide"],
  },
  posthogConfig: {
    ...{ dialect: "posthog-config", cors: POSTHOG_CORS, access: "anyone" },
    paths: ["/array/{key}/config", "/array/{key}/config.js"],
  },
  posthogReplay: { dialect: "posthog-replay", paths: ["/s/", "/s"], cors: POSTHOG_CORS, access: "anyone" },
  segment: {
    dialect: "segment",
    paths: [
      ...["/v1/batch", "/v1/import", "/v1/track", "/v1/page", "/v1/screen", "/v1/identify", "/v1/group", "/v1/alias"],
      ...["/v1/b", "/v1/t", "/v1/p", "/v1/s", "/v1/i", "/v1/g", "/v1/a"],
    ],
    ...SEGMENT_ENTRY,
  },
  jitsu: { dialect: "jitsu", paths: ["/api/s/{type}", "/api/s/s2s/{type}"], ...SEGMENT_ENTRY },
  segmentSettings: {
    dialect: "segment-settings",
    access: "anyone",
    cors: SEGMENT_CORS,
    paths: ["/v1/projects/{key}/settings", "/sourceConfig", "/sourceConfig/"],
  },
  /** On /events as well, where a request says that it is one (routes.ts). */
  cloudevents: {
    dialect: "cloudevents",
    paths: ["/cloudevents", "/api/v1/events"],
    access: "key",
    form: {},
    isTraced: true,
  },
  ndjson: {
    dialect: "ndjson",
    paths: ["/v0/events"],
    access: "key",
    keys: { query: ["token"] },
    form: {},
    isTraced: true,
  },
  notTaken: {
    dialect: "not-taken",
    access: "anyone",
    paths: [
      ...["/v1/logs", "/v1/metrics", "/v1/traces", "/api/v1/write", "/write", "/api/v2/write", "/groups", "/import"],
    ],
  },
  replay: { dialect: "replay", paths: [REPLAY_PATH], access: "secret key", form: JSON_FORM },
  refused: { dialect: "refused", paths: [REFUSED_PATH], access: "secret key", form: JSON_FORM },
} as const satisfies Record<string, WireRules>;

export type WireName = keyof typeof WIRES;

export interface Found<W> {
  wire: W;
  /** What stands in the path for its parts in braces, in their order. */
  parts: readonly string[];
}

/** Finds the wire of a path. Paths without braces cost one look-up, whatever else is in the table. */
export function createWireTable<W extends { readonly rules: WireRules }>(
  wires: readonly W[],
): (path: string) => Found<W> | undefined {
  const exact = new Map<string, Found<W>>();
  const patterns: { start: string; pattern: RegExp; wire: W }[] = [];
  for (const wire of wires) {
    for (const path of wire.rules.paths) {
      const at = path.indexOf("{");
      if (at < 0) exact.set(path, { wire, parts: [] });
      else patterns.push({ start: path.slice(0, at), pattern: patternOf(path), wire });
    }
  }
  return (path) => {
    const found = exact.get(path);
    if (found) return found;
    for (const { start, pattern, wire } of patterns) {
      const match = path.startsWith(start) ? pattern.exec(path) : null;
      if (match) return { wire, parts: match.slice(1) };
    }
    return undefined;
  };
}

function patternOf(path: string): RegExp {
  const parts = path.split(/\{\w+\}/).map((text) => text.replaceAll(/[^\w/-]/g, "\\$&"));
  return new RegExp(`^${parts.join("([^/]+)")}$`);
}
