// What PostHog's libraries ask for beside sending events, answered with what there is: autocapture, no feature flags, no
// replay, no surveys. Nothing here is stored or configured.
import { randomUUID } from "node:crypto";
import { JsonNames } from "#lib/events/json-keys.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Edge } from "../edge.ts";
import { type JsonReading, readJsonBody } from "../json-body.ts";
import { refused } from "../refusals.ts";
import { Reply, type Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { behindMark } from "./batch-body.ts";
import { postHogError } from "./posthog-events.ts";

/** The settings of a project in which everything but events is off. */
const CONFIG = {
  supportedCompression: ["gzip-js"],
  autocapture_opt_out: false,
  analytics: { endpoint: "/i/v0/e/" },
  elementsChainAsString: true,
  hasFeatureFlags: false,
  sessionRecording: false,
  // For false posthog-js loads its script of surveys all the same.
  surveys: null,
  heatmaps: false,
  capturePerformance: false,
  autocaptureExceptions: false,
  captureDeadClicks: false,
  productTours: false,
  conversations: false,
  logs: { captureConsoleLogs: false },
  errorTracking: { autocaptureExceptions: false, suppressionRules: [] },
  isAuthenticated: false,
  toolbarParams: {},
  siteApps: [],
};
/** Browsers may keep the settings for so long, seconds: they only change with a version of Millrace. */
const CONFIG_SECONDS = 300;
const KEY_CHARS_MAX = 200;
const KEYS = new JsonNames(["token", "api_key"]);

export function createPostHogConfigWire(): Wire {
  return {
    async answer(request, { path, parts: [key = ""] }) {
      assertGet(request);
      if (key.length > KEY_CHARS_MAX) throw refused("not_found", { method: "GET", url: path });
      const headers = { "cache-control": `public, max-age=${CONFIG_SECONDS}`, "x-content-type-options": "nosniff" };
      if (!path.endsWith(".js")) return new Reply(200, { token: key, ...CONFIG }, headers);
      const settings = JSON.stringify({ config: { token: key, ...CONFIG }, siteApps: [] });
      const script = `(window._POSTHOG_REMOTE_CONFIG = window._POSTHOG_REMOTE_CONFIG || {})[${JSON.stringify(key)}] = ${settings};`;
      return new Reply(200, script, { ...headers, "content-type": "text/javascript; charset=utf-8" });
    },
    refusalBody: postHogError,
  };
}

function assertGet({ method }: HttpRequest): void {
  if (method !== "GET" && method !== "HEAD") throw refused("method", { allow: "GET, HEAD" });
}

/** A key is asked for as where events go, so that a wrong one shows before events are lost. */
export function createPostHogFlagsWire(edge: Edge, { json }: { json: JsonReading }): Wire {
  return {
    async answer(request, { path }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.posthogFlags);
      entry.identify(keyIn(json, await entry.readBody()));
      const nothing = { flags: {}, featureFlags: {}, featureFlagPayloads: {}, errorsWhileComputingFlags: false };
      // Of /flags/ the first is enough; /decide/ gave the settings as well.
      return { ...nothing, requestId: randomUUID(), ...(path.startsWith("/decide") && CONFIG) };
    },
    refusalBody: postHogError,
  };
}

function keyIn({ cursor }: JsonReading, body: Uint8Array): string {
  if (body.length === 0) return "";
  return readJsonBody(cursor, body, behindMark(body), () => {
    let key = "";
    if (cursor.kind() !== "object") {
      cursor.skip();
      return key;
    }
    cursor.enter();
    while (cursor.nextMember(KEYS)) {
      if (cursor.name >= 0 && cursor.kind() === "string") key = cursor.text().trim() || key;
      else cursor.skip();
    }
    return key;
  });
}

/** Recordings are not taken: said as PostHog says that a quota is used up, upon which its libraries stop sending them. */
export function createPostHogReplayWire(): Wire {
  return {
    async answer(request) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      return { status: 1, quota_limited: ["recordings"] };
    },
    refusalBody: postHogError,
  };
}
