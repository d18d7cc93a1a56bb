// What Segment's and RudderStack's browser clients ask before they send anything: an honest configuration without
// destinations. It says nothing that the caller has not sent, so nobody is asked for a key.
import type { HttpRequest } from "#lib/http/message.ts";
import { queryOf } from "../caller-keys.ts";
import { refused } from "../refusals.ts";
import { Reply, type Wire } from "../wire.ts";

export const SEGMENT_SETTINGS_WIRE: Wire = {
  async answer(request, { parts: [key = ""] }) {
    if (request.method !== "GET" && request.method !== "HEAD") throw refused("method", { allow: "GET, HEAD" });
    const body = key === "" ? rudderSource(queryOf(request).get("writeKey") ?? "") : segmentSettings(request, key);
    // It has the address that this caller used, which may not be the next one's.
    return new Reply(200, body, { "cache-control": "no-store" });
  },
  refusalBody: ({ refusal, message }) => ({ code: refusal, message }),
};

/** With the address to send to, so that a page names this host once, as the CDN. */
function segmentSettings(request: HttpRequest, apiKey: string): object {
  const host = request.headers.host ?? request.headers[":authority"] ?? "";
  const forwarded = request.headers["x-forwarded-proto"];
  const isTls = "encrypted" in request.socket || forwarded === "https";
  const address = host === "" ? {} : { apiHost: `${String(host)}/v1`, protocol: isTls ? "https" : "http" };
  return {
    integrations: { "Segment.io": { apiKey, ...address } },
    plan: { track: { __default: { enabled: true, integrations: {} } } },
    edgeFunction: {},
    analyticsNextEnabled: true,
    middlewareSettings: {},
    enabledMiddleware: {},
    legacyVideoPluginsEnabled: false,
    remotePlugins: [],
  };
}

function rudderSource(writeKey: string): object {
  const statsCollection = { errors: { enabled: false }, metrics: { enabled: false } };
  const source = { id: "millrace", name: "Millrace", enabled: true, workspaceId: "millrace" };
  return {
    source: { ...source, writeKey, config: { statsCollection }, connections: [], destinations: [], dataplanes: {} },
    updatedAt: "1970-01-01T00:00:00.000Z",
  };
}
