// Settings of `millrace gateway`; refuses an open port without keys.
import { z } from "zod";
import { EVERY_ADDRESS } from "#lib/config/host-port.ts";
import { keepAliveSettings } from "#lib/config/keep-alive-settings.ts";
import { bytes, count, csv, duration, fixed, flag, oneOf, port, text } from "#lib/config/settings.ts";
import { refuseHalfHttps, tlsSettings } from "#lib/config/tls-settings.ts";
import { kafkaSettings, requireKafka } from "#lib/eventlog/kafka/settings.ts";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { isLoopback } from "#lib/http/loopback.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";
import { IP_MODES, proxyFault } from "./trusted-proxies.ts";

/** What a gateway needs, as a process of its own or within another. */
export const ingressSettings = {
  port: port(8080).describe(
    "Port for HTTP/1.1 and HTTP/2: Connect, gRPC, gRPC-Web, POST /events and /batch/, health, metrics.",
  ),
  ...tlsSettings,
  ...keepAliveSettings,
  maxBatchBytes: bytes(20_971_520, { min: 1024 }).describe("Largest request body, decoded."),
  maxEventsPerBatch: count(10_000, { min: 1 }).describe("Most events in one request."),
  maxEventBytes: bytes(DEFAULT_LIMITS.eventBytes, { min: 1024, max: DEFAULT_LIMITS.eventBytes }).describe(
    "Largest event as stored on the log; below Kafka's default message.max.bytes.",
  ),
  plainJson: flag(false).describe(
    "Read JSON bodies by JSON.parse instead of the scanner: slower, and numbers and text are rewritten.",
  ),
  /** It only warns: names are a dictionary in ClickHouse, made for thousands of them. */
  maxEventNames: fixed(10_000),
  maxBytesInFlight: bytes("16MiB", { min: 65_536 }).describe(
    "Body bytes of unanswered requests with a key; over it callers get 503 / RESOURCE_EXHAUSTED and Retry-After.",
  ),
  maxConnections: count(10_000, { min: 1 }).describe("Most open connections."),
  maxConnectionsPerAddress: count(0).describe(
    "Most connections from one IPv4 address or IPv6 /64, but not from TRUSTED_PROXIES; 0: a quarter, at least 16.",
  ),
  publicApiKeys: csv([], { secret: true }).describe("Keys that may write, comma-separated."),
  secretApiKeys: csv([], { secret: true }).describe("Keys that may write and administer, comma-separated."),
  allowedOrigins: csv([]).describe("Web origins whose pages may call, like https://app.example, comma-separated."),
  trustedProxies: csv([])
    .superRefine(checkProxies)
    .describe("Proxies whose X-Forwarded-For is believed: addresses, ranges like 10.0.0.0/8, or loopback."),
  ipMode: oneOf(IP_MODES, "full").describe(
    "Callers' addresses as stored: whole, without the host part (IPv4 /24, IPv6 /48), or not at all.",
  ),
  rateLimitEvents: count(0).describe("Events a second from one key, or one address without a key; 0: any number."),
  rateLimitBurst: count(0).describe("Events at once under RATE_LIMIT_EVENTS; 0: those of one second."),
  allowAnonymous: flag(false).describe("Listen beyond loopback without any key."),
  /** For a request's head to arrive: a proxy sends it at once, and only who holds connections needs longer. */
  headersTimeout: fixed(10_000, "10s"),
  requestTimeout: duration("60s", { min: 100 }).describe(
    "Time for a whole request, or one message of a stream, to arrive.",
  ),
  /** For the next bytes of a body or message; slow callers have REQUEST_TIMEOUT. */
  bodyIdleTimeout: fixed(10_000, "10s"),
  /** For callers of /v0/events who wait until their rows are stored; then they hear that the events are durable. */
  storedTimeout: fixed(10_000, "10s"),
  stopTimeout: duration("10s", { min: 0 }).describe("Time for open requests to finish when the process stops."),
};

function checkProxies(list: readonly string[], context: z.RefinementCtx): void {
  for (const message of list.map(proxyFault)) if (message) context.addIssue({ code: "custom", message });
}

export type IngressConfig = z.output<z.ZodObject<typeof ingressSettings>> & { host: string };

export const gatewaySchema = z
  .object({
    host: text(EVERY_ADDRESS).describe("Address to listen on; :: is every one, of IPv4 too."),
    ...ingressSettings,
    ...kafkaSettings,
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine(refuseOpenIngress)
  .superRefine(refuseHalfHttps)
  .superRefine(requireKafka);

/** Closed by default: beyond loopback a key is asked for, unless anonymous callers are allowed in so many words. */
export function refuseOpenIngress(
  config: Pick<IngressConfig, "host" | "publicApiKeys" | "secretApiKeys" | "allowAnonymous">,
  context: z.RefinementCtx,
): void {
  const keys = config.publicApiKeys.length + config.secretApiKeys.length;
  if (isLoopback(config.host) || keys > 0 || config.allowAnonymous) return;
  context.addIssue({
    code: "custom",
    path: ["host"],
    message:
      "listens beyond loopback, but no key is set: set PUBLIC_API_KEYS or SECRET_API_KEYS, or HOST=127.0.0.1, or ALLOW_ANONYMOUS=true",
  });
}
