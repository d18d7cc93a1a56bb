// Calls of the stats service by commands: where it is, the key, and its refusals as sentences.
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { httpUrl, secret } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";

export const statsTargetSettings = {
  statsUrl: httpUrl("http://127.0.0.1:8081").describe(
    "Address of the stats service: STATS_PORT of millrace start or stats.",
  ),
  statsToken: secret().describe("STATS_TOKEN of the stats service, or one of its SECRET_API_KEYS."),
  tlsCa: authorities().describe("PEM file with certificates to trust besides the public authorities', for https."),
};

export interface StatsTarget {
  statsUrl: string;
  statsToken: string | undefined;
}

/** Its calls reject with ConnectError. */
export function createStatsClient<S extends DescService>(
  service: S,
  { statsUrl, statsToken }: StatsTarget,
  timeoutMs?: number,
): Client<S> {
  const transport = createConnectTransport({
    baseUrl: statsUrl,
    httpVersion: "1.1",
    ...(timeoutMs !== undefined && { defaultTimeoutMs: timeoutMs }),
    interceptors: [
      (next) => (request) => {
        if (statsToken !== undefined) request.header.set("authorization", `Bearer ${statsToken}`);
        return next(request);
      },
    ],
  });
  return createClient(service, transport);
}

/** A sentence for a failed call; undefined for what is a bug of this program. */
export function explainStats(error: unknown, { statsUrl }: StatsTarget): string | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const { code, rawMessage, cause } = error;
  if (code === Code.Unauthenticated) return `${rawMessage}: set STATS_TOKEN`;
  if (code === Code.Unimplemented || code === Code.Unknown || code === Code.Internal) {
    return `${statsUrl} answered ${Code[code]}: ${rawMessage}. Set STATS_URL to STATS_PORT of millrace start or millrace stats, of this version`;
  }
  const wasReached = !(cause instanceof Error) || !("code" in cause || "syscall" in cause);
  if (code === Code.Unavailable && !wasReached) {
    return `cannot reach ${statsUrl} (${rawMessage}): start millrace start or millrace stats, or set STATS_URL`;
  }
  return rawMessage;
}
