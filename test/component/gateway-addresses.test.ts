// Which address is stored with an event, in every dialect: TRUSTED_PROXIES and IP_MODE.
import { describe, expect, it } from "vitest";
import type { IngressConfig } from "../../services/gateway/config.ts";
import { EVENT, JSON_TYPE, KEY } from "../kit/batch-calls.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const REQUESTS = [
  ["/batch/", JSON.stringify({ batch: [EVENT] })],
  ["/events", '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}'],
  ["/millrace.events.v1.EventService/Publish", '{"events":[{"event":"e"}]}'],
] as const;
const FORGED = "198.51.100.66, 203.0.113.9";

/** Address stored by each dialect for a request with this X-Forwarded-For. */
async function storedBy(settings: Partial<IngressConfig>, forwardedFor: string): Promise<string[]> {
  await using gateway = await startTestGateway({ publicApiKeys: [KEY], ...settings });
  const headers = { ...JSON_TYPE, "x-api-key": KEY, "x-forwarded-for": forwardedFor, "x-real-ip": "192.0.2.1" };
  for (const [path, body] of REQUESTS) expect((await callH1(gateway.port, path, { headers, body })).status).toBe(200);
  return (await gateway.events()).map(({ ip }) => ip);
}

describe("the address stored", () => {
  it.each([
    ["is that of the connection, whatever X-Forwarded-For says", {}, FORGED, "127.0.0.1"],
    ["is written as IPv4 where addresses of both families are listened on", { host: "::" }, FORGED, "127.0.0.1"],
    ["is what a trusted proxy says, not what its caller says", { trustedProxies: ["loopback"] }, FORGED, "203.0.113.9"],
    ["is no garbage", { trustedProxies: ["loopback"] }, "'; DROP TABLE events", "127.0.0.1"],
    ["ends with its network", { trustedProxies: ["loopback"], ipMode: "truncate" }, FORGED, "203.0.113.0"],
    ["is nothing", { trustedProxies: ["loopback"], ipMode: "off" }, FORGED, ""],
  ] as const)("%s", async (_case, settings, forwardedFor, expected) => {
    expect(await storedBy(settings, forwardedFor)).toEqual([expected, expected, expected]);
  });
});
