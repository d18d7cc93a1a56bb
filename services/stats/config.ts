// Settings of `millrace stats`; refuses an open port without a token.
import { z } from "zod";
import { EVERY_ADDRESS } from "#lib/config/host-port.ts";
import { keepAliveSettings } from "#lib/config/keep-alive-settings.ts";
import { count, csv, duration, fixed, flag, httpUrl, oneOf, port, secret, text } from "#lib/config/settings.ts";
import { refuseHalfHttps, tlsSettings } from "#lib/config/tls-settings.ts";
import { kafkaSettings, requireKafka } from "#lib/eventlog/kafka/settings.ts";
import { isLoopback } from "#lib/http/loopback.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { retentionSettings } from "#lib/warehouse/retention.ts";
import { alertSettings } from "./alerts/evaluator-settings.ts";

/** Grain of the roll-up that means are made of. */
const GRAIN_MS = 300_000;

/** What a stats service needs, as a process of its own or within another. */
export const statsSettings = {
  statsPort: port(8081).describe("Port for HTTP/1.1 and HTTP/2: history, alerts, live values, health, metrics."),
  ...tlsSettings,
  ...keepAliveSettings,
  statsToken: secret()
    .superRefine(checkToken)
    .describe("Callers must send it, as header or query field X-AUTH-TOKEN; unset: open, on loopback only."),
  corsAllow: text("*").describe("Web origin whose pages may read answers, as Access-Control-Allow-Origin; *: any."),
  pulseCompat: oneOf(["readme", "code"], "readme").describe(
    "Which form to answer in where pulse's README and code differ, to agents and to callers of the history API.",
  ),
  pollInterval: duration("60s", { bareUnit: "s" }).describe("How often agents are polled for their values; 0: 60s."),
  flushInterval: duration("5s", { min: 10 }).describe(
    "Longest wait of a record for its insert; 100ms while ClickHouse is idle.",
  ),
  aggregateInterval: duration("15m", { bareUnit: "m", min: GRAIN_MS })
    .superRefine(checkGrain)
    .describe(
      "Window whose means hourly and daily answers are made of under PULSE_COMPAT=code; a bare number is minutes.",
    ),
  timeZone: text()
    .superRefine(checkTimeZone)
    .describe("Time zone of the times of day in /daily, such as Europe/Berlin; unset: the machine's, or TZ's."),
  statsMaxQueries: count(4, { min: 1, max: 100 }).describe("Most queries to ClickHouse side by side; others wait."),
  /** Of live values at once: each holds a connection of a page that somebody looks at. */
  statsMaxWatchers: fixed(500),
  /** Of events at once: each may look into every record. */
  statsMaxTails: fixed(50),
  refusalsFrom: csv([])
    .superRefine(checkGateways)
    .describe("Gateways that are asked what they refused, such as http://gateway:8080; each address of a name is one."),
  publicApiKeys: csv([], { secret: true }).describe("The gateway's public keys; none of them may delete persons."),
  secretApiKeys: csv([], { secret: true }).describe(
    "The gateway's secret keys, which may see events, and delete persons over RPC; comma-separated.",
  ),
  gatewayPublicUrl: httpUrl().describe(
    "Address of the gateway as callers reach it, for the console's examples; unset: this host, port 8080.",
  ),
  ...alertSettings,
  pointsRetention: retentionSettings.pointsRetention,
};

function checkToken(token: string | undefined, context: z.RefinementCtx): void {
  if (token === "") context.addIssue({ code: "custom", message: "expected text that is not empty" });
}

function checkGateways(urls: readonly string[], context: z.RefinementCtx): void {
  for (const url of urls) {
    const parsed = URL.parse(url);
    if (parsed && /^https?:$/.test(parsed.protocol) && parsed.pathname === "/" && parsed.search === "") continue;
    context.addIssue({ code: "custom", message: `${url}: expected an address such as http://gateway:8080` });
  }
}

function checkGrain(ms: number, context: z.RefinementCtx): void {
  if (ms % GRAIN_MS !== 0) context.addIssue({ code: "custom", message: "expected a multiple of 5m" });
}

function checkTimeZone(name: string | undefined, context: z.RefinementCtx): void {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
  } catch {
    // Thrown for unknown names, nothing else.
    context.addIssue({ code: "custom", message: "expected the name of a time zone, such as Europe/Berlin or UTC" });
  }
}

export type StatsConfig = z.output<z.ZodObject<typeof statsSettings>> & { host: string; stopTimeout: number };

export const statsSchema = z
  .object({
    host: text(EVERY_ADDRESS).describe("Address to listen on; :: is every one, of IPv4 too."),
    ...statsSettings,
    allowAnonymous: flag(false).describe("Listen beyond loopback without STATS_TOKEN."),
    stopTimeout: duration("10s", { min: 0 }).describe("Time for open requests to finish when the process stops."),
    ...kafkaSettings,
    ...clickhouseSettings,
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine(refuseOpenStats)
  .superRefine(refuseHalfHttps)
  .superRefine(requireKafka);

/** Closed by default: beyond loopback a token is asked for, unless anonymous callers are allowed in so many words. */
export function refuseOpenStats(
  config: Pick<StatsConfig, "host" | "statsToken"> & { allowAnonymous: boolean },
  context: z.RefinementCtx,
): void {
  if (isLoopback(config.host) || config.statsToken !== undefined || config.allowAnonymous) return;
  context.addIssue({
    code: "custom",
    path: ["host"],
    message:
      "listens beyond loopback, but stats need no token: set STATS_TOKEN, or HOST=127.0.0.1, or ALLOW_ANONYMOUS=true",
  });
}
