// Settings of `millrace relay`; refuses an open port without a token.
import { z } from "zod";
import { EVERY_ADDRESS } from "#lib/config/host-port.ts";
import { bytes, count, duration, fixed, flag, oneOf, port, secret, text } from "#lib/config/settings.ts";
import { needsBoth } from "#lib/config/tls-settings.ts";
import { kafkaSettings, requireKafka } from "#lib/eventlog/kafka/settings.ts";
import { isLoopback } from "#lib/http/loopback.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";

/** Shorter polls would be a load and no measurement. */
const POLL_MS_MIN = 100;

/** What a relay service needs, as a process of its own or within another. */
export const relaySettings = {
  relayPort: port(3001).describe("TCP port for agents: pulse's line protocol."),
  pollInterval: duration("60s", { bareUnit: "s" })
    .superRefine(checkPollInterval)
    .describe("How often agents are polled for their values; 0: 60s."),
  beatInterval: duration("30s", { min: 2_000, max: 86_400_000, bareUnit: "s" }).describe(
    "How often agents must ping, in whole seconds; an agent silent for twice as long is dropped.",
  ),
  relayToken: secret()
    .superRefine(checkToken)
    .describe("Agents must send it, as `id NAME TOKEN`; the HTTP side requires it too."),
  relayTlsCert: text().describe("PEM file with the certificate for TLS on RELAY_PORT; without it, plain TCP."),
  relayTlsKey: text().describe("PEM file with its private key. Both are read again when they change, and on SIGHUP."),
  relayMaxConnections: count(10_000, { min: 1 }).describe(
    "Most agents connected at once; further connections are closed.",
  ),
  relayMaxConnectionsPerAddress: count(0).describe(
    "Most connections from one IPv4 address or IPv6 /64; 0: a quarter, at least 16.",
  ),
  /** Longest line from an agent: a hundred times what one with every collector sends. */
  relayMaxLineBytes: fixed(65_536, "64KiB"),
  relayBufferBytes: bytes("64MiB", { min: 65_536 }).describe(
    "Points kept in memory while the log cannot take them; beyond it the oldest are dropped and counted.",
  ),
  pulseCompat: oneOf(["readme", "code"], "readme").describe(
    "Where pulse's README and code differ: answer `add` and `remove` with ok (readme) or not at all (code).",
  ),
};

function checkPollInterval(ms: number, context: z.RefinementCtx): void {
  if (ms > 0 && ms < POLL_MS_MIN)
    context.addIssue({ code: "custom", message: `expected 0, or at least ${POLL_MS_MIN}ms` });
}

function checkToken(token: string | undefined, context: z.RefinementCtx): void {
  if (token !== undefined && !/^\S+$/.test(token))
    context.addIssue({ code: "custom", message: "expected one word without white space: it ends a line" });
}

export type RelaySettings = z.output<z.ZodObject<typeof relaySettings>>;
export type RelayConfig = RelaySettings & { host: string };

export const refuseHalfTls = needsBoth("relayTlsCert", "relayTlsKey");

export const relaySchema = z
  .object({
    host: text(EVERY_ADDRESS).describe("Address to listen on; :: is every one, of IPv4 too."),
    ...relaySettings,
    relayHttpPort: port(8082).describe("Port of /relays, /healthz, /readyz and /metrics."),
    allowAnonymous: flag(false).describe("Listen beyond loopback without RELAY_TOKEN."),
    stopTimeout: duration("10s", { min: 0 }).describe(
      "Time for waiting points to reach the log when the process stops.",
    ),
    ...kafkaSettings,
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine(refuseOpenRelay)
  .superRefine(refuseHalfTls)
  .superRefine(requireKafka);

/** Closed by default: beyond loopback a token is asked for, unless anonymous relays are allowed in so many words. */
export function refuseOpenRelay(
  config: Pick<RelayConfig, "host" | "relayToken"> & { allowAnonymous: boolean },
  context: z.RefinementCtx,
): void {
  if (isLoopback(config.host) || config.relayToken !== undefined || config.allowAnonymous) return;
  context.addIssue({
    code: "custom",
    path: ["host"],
    message:
      "listens beyond loopback, but relays need no token: set RELAY_TOKEN, or HOST=127.0.0.1, or ALLOW_ANONYMOUS=true",
  });
}
