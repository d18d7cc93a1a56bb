// Composition root of the gateway.
import type { ConnectError } from "@connectrpc/connect";
import type { Registry } from "prom-client";
import { tlsFiles } from "#lib/config/tls-settings.ts";
import { type AppendRecord, type EventLog, type LogReader, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createCors, createOrigins } from "#lib/http/cors.ts";
import { createHealth, type Health, type HealthCheck } from "#lib/http/health.ts";
import { listenHttp } from "#lib/http/listener.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import { registerReflection } from "#lib/http/rpc-reflection.ts";
import { createRefusedEvents, type RefusedEvents } from "#lib/ledger/refused-events.ts";
import type { Logger } from "#lib/process/log.ts";
import { type Admission, createAdmission } from "./admission.ts";
import { createKeys } from "./auth.ts";
import type { IngressConfig } from "./config.ts";
import { createEdge } from "./edge.ts";
import { createEventNames } from "./event-names.ts";
import { createGroupCommit, type GroupCommitOptions } from "./group-commit.ts";
import { createIngest, type Ingest } from "./ingest.ts";
import { createJsonReading, type JsonReading } from "./json-body.ts";
import { createGatewayMetrics, type GatewayMetrics } from "./metrics.ts";
import { createNoteRefused } from "./note-refused.ts";
import { createRateLimit } from "./rate-limit.ts";
import { Refused, refused, toConnectError } from "./refusals.ts";
import { createRoutes, type RoutesOptions } from "./routes.ts";
import { createStartPage } from "./start-page.ts";
import { createStoredWatch } from "./stored-watch.ts";
import { createCallerOf, createTrustedProxies, type TrustedProxies } from "./trusted-proxies.ts";
import { createBatchWire } from "./wires/batch.ts";
import { createCloudEventsWire } from "./wires/cloudevents.ts";
import { createEventsWire } from "./wires/events.ts";
import { registerHealthService } from "./wires/health.ts";
import { createNdjsonWire } from "./wires/ndjson.ts";
import { NOT_TAKEN_WIRE } from "./wires/not-taken.ts";
import { createPostHogWire } from "./wires/posthog.ts";
import { createPostHogConfigWire, createPostHogFlagsWire, createPostHogReplayWire } from "./wires/posthog-settings.ts";
import { createPostHogV1Wire } from "./wires/posthog-v1.ts";
import { createPublishWire } from "./wires/publish.ts";
import { createRefusedWire } from "./wires/refused.ts";
import { createReplayWire } from "./wires/replay.ts";
import { type RpcCall, registerEventService } from "./wires/rpc.ts";
import { createMessageCheck } from "./wires/rpc-messages.ts";
import { createJitsuWire, createSegmentWire } from "./wires/segment.ts";
import { SEGMENT_SETTINGS_WIRE } from "./wires/segment-settings.ts";

/** Group commit: a request waits this long for company when nothing is in flight. */
const LINGER_MS = 2;
const GROUP_RECORDS_MAX = 2000;
/** A log that takes appends side by side gets the next group at the latest when the last one has had so long. */
const GROUP_PACE_MS = 10;
/** Below Kafka's default message.max.bytes, because a group may fall into one partition whole. */
const GROUP_BYTES_MAX = 950_000;
/** A caller hears of an unavailable log within this time plus one append's own limit. */
const APPEND_WAIT_MS_MAX = 10_000;
/** Above the limit that the Kafka log sets itself, so that its reason is the one that is told. */
const APPEND_MS_MAX = 20_000;
/** For callers who wait until their rows are stored: how often the log is asked, and how many may wait. */
const STORED_INTERVAL_MS = 200;
const STORED_WAITING_MAX = 1000;
/** Events with `check_stored` from an address without a secret key: enough for a browser that held events back. */
const LOOKUPS = { eventsPerSecond: 100, burst: 10_000 };

/** What stores its records is asked how far it is. */
type GatewayLog = EventLog & LogReader;

export interface GatewayParts {
  log: GatewayLog;
  registry: Registry;
  logger: Logger;
  /** What else has to work for the process to be ready; the standalone adds its consumer and ClickHouse. */
  checks?: readonly HealthCheck[];
  /** Port of the console on the same host, which browsers that ask for `/` are pointed to. */
  consolePort?: number;
  /** Keeps what is refused, where somebody else in this process asks for it. */
  refused?: RefusedEvents;
  nowMs?: () => number;
}

export interface Gateway extends AsyncDisposable {
  readonly port: number;
}

/** Serves until disposed; then finishes what was accepted. Does not close the log, which it was handed. */
export async function startGateway(config: IngressConfig, parts: GatewayParts): Promise<Gateway> {
  const { log, registry, logger } = parts;
  const nowMs = parts.nowMs ?? Date.now;
  const limits = { ...DEFAULT_LIMITS, eventBytes: config.maxEventBytes };
  const admission = createAdmission(config.maxBytesInFlight);
  const metrics = createGatewayMetrics(registry, () => admission.inFlightBytes);
  const groupCommit = createGroupCommit({
    lingerMs: LINGER_MS,
    maxRecords: GROUP_RECORDS_MAX,
    maxBytes: GROUP_BYTES_MAX,
    waitMsMax: APPEND_WAIT_MS_MAX,
    paceMs: log.pipelines ? GROUP_PACE_MS : undefined,
    append: (records, onSettled) => log.append(EVENTS_TOPIC, records, undefined, onSettled),
    appendMsMax: APPEND_MS_MAX,
    onAppend: createAppendObserver(metrics, logger),
  });
  const eventNames = createEventNames({ maxNames: config.maxEventNames, logger, overCap: metrics.eventNamesOverCap });
  const json = createJsonReading(limits, config.plainJson);
  const refusedEvents = parts.refused ?? createRefusedEvents(nowMs);
  const ingest = createIngest(groupCommit, json, metrics, eventNames, refusedEvents);
  const checks: HealthCheck[] = [{ name: "log", check: () => log.check() }, ...(parts.checks ?? [])];
  const health = createHealth({ checks, registry });
  const proxies = createTrustedProxies(config.trustedProxies);
  const stopping = new AbortController();
  const edgeParts = { admission, health, ingest, json, log, logger, metrics, nowMs, proxies, refusedEvents };
  const routes = createRoutes(createServing(config, edgeParts, stopping.signal));

  const scheme = config.tlsCert === undefined ? "http" : "https";
  const { consolePort } = parts;
  const startPage = consolePort === undefined ? undefined : createStartPage({ consolePort, scheme });
  const server = await listenHttp({
    host: config.host,
    port: config.port,
    setting: "PORT",
    tls: tlsFiles(config.tlsCert, config.tlsKey, "TLS"),
    maxConnections: config.maxConnections,
    maxPerAddress: config.maxConnectionsPerAddress,
    isShared: proxies.has,
    headersTimeoutMs: config.headersTimeout,
    requestTimeoutMs: config.requestTimeout,
    idleTimeoutMs: config.keepAliveTimeout,
    handle: (request, response) => {
      if (!startPage?.(request, response)) routes(request, response);
    },
    logger,
  });
  logger.info({ host: config.host, port: server.port, tls: config.tlsCert !== undefined }, "gateway listening");

  let stopped: Promise<void> | undefined;
  async function stop(): Promise<void> {
    health.setDraining();
    stopping.abort(new Error("the gateway is stopping"));
    await server.close(config.stopTimeout);
    logger.info("gateway stopped");
  }
  return {
    port: server.port,
    [Symbol.asyncDispose]() {
      stopped ??= stop();
      return stopped;
    },
  };
}

interface EdgeParts {
  admission: Admission;
  health: Health;
  ingest: Ingest;
  json: JsonReading;
  log: GatewayLog;
  logger: Logger;
  metrics: GatewayMetrics;
  nowMs: () => number;
  proxies: TrustedProxies;
  refusedEvents: RefusedEvents;
}

/** The edge, and the wires that stand on it. */
function createServing(config: IngressConfig, parts: EdgeParts, shutdownSignal: AbortSignal): RoutesOptions {
  const { admission, health, ingest, json, log, logger, metrics, nowMs, proxies, refusedEvents } = parts;
  const { maxBatchBytes: maxBodyBytes, maxEventsPerBatch: maxEvents, maxEventBytes } = config;
  const origins = createOrigins(config.allowedOrigins);
  if (origins.unmatchable.length > 0) {
    logger.warn({ origins: origins.unmatchable }, "entries of ALLOWED_ORIGINS that no browser's Origin equals");
  }
  const patience = { idleMs: config.bodyIdleTimeout, messageMs: config.requestTimeout };
  const onRefused = (dialect: string, events: number) => metrics.rateLimited.inc({ dialect }, events);
  const edge = createEdge({
    ...{ origins, admission, nowMs, patience, maxBodyBytes, host: config.host },
    callerOf: createCallerOf(proxies, config.ipMode),
    keys: createKeys(config.publicApiKeys, config.secretApiKeys),
    rateLimit: createRateLimit({
      eventsPerSecond: config.rateLimitEvents,
      burst: config.rateLimitBurst,
      onRefused,
    }),
    lookupLimit: createRateLimit({ ...LOOKUPS, onRefused }),
  });
  const noteRefused = createNoteRefused(metrics, refusedEvents);
  const tell = (error: unknown) => {
    if (error instanceof Refused) noteRefused(error);
    return toConnectError(error);
  };
  const check = createMessageCheck({ maxEvents, maxBytes: maxBodyBytes, cursor: json.cursor });
  const rpc = createRpcHandler<RpcCall>({
    ...{ maxMessageBytes: maxBodyBytes, patience, shutdownSignal, logger, toConnectError: tell },
    leaseOf: ({ entry }) => entry.lease,
    inspect: check,
    tooBusy: () => tell(refused("busy", {})) as ConnectError,
    // The caller keeps its own; an append cannot be taken back for it.
    keepsDeadlines: false,
    routes(router, callOf) {
      registerEventService(router, callOf, { ingest, maxEvents });
      registerHealthService(router, () => health.isReady());
      registerReflection(router);
    },
  });
  const append = (topic: string, records: readonly AppendRecord[]) => log.append(topic, records);
  const storedWatch = createStoredWatch({
    ...{
      intervalMs: STORED_INTERVAL_MS,
      maxMs: config.storedTimeout,
      maxWaiting: STORED_WAITING_MAX,
      signal: shutdownSignal,
    },
    committed: () => log.committed(EVENTS_TOPIC, CONSUMER_GROUP),
  });
  const wires = {
    events: createEventsWire(edge, { ingest, json }),
    batch: createBatchWire(edge, { ingest, json, maxBodyBytes, maxEvents, logger }),
    posthog: createPostHogWire(edge, { ingest, json, maxEvents, logger }),
    posthogV1: createPostHogV1Wire(edge, { ingest, json, maxEvents, logger }),
    posthogFlags: createPostHogFlagsWire(edge, { json }),
    posthogConfig: createPostHogConfigWire(),
    posthogReplay: createPostHogReplayWire(),
    segment: createSegmentWire(edge, { ingest, json, maxEvents, logger }),
    jitsu: createJitsuWire(edge, { ingest, json, maxEvents, logger }),
    segmentSettings: SEGMENT_SETTINGS_WIRE,
    cloudevents: createCloudEventsWire(edge, { ingest, json, maxEvents, logger }),
    ndjson: createNdjsonWire(edge, { ingest, json, maxEvents, logger, storedWatch }),
    notTaken: NOT_TAKEN_WIRE,
    replay: createReplayWire(edge, { append, maxEvents, maxEventBytes }),
    refused: createRefusedWire(edge, refusedEvents),
  };
  const publish = createPublishWire(edge, { ingest, maxEvents, check });
  const { requestTimeout: requestTimeoutMs } = config;
  return {
    edge,
    wires,
    publish,
    rpc,
    cors: createCors(origins),
    health,
    metrics,
    noteRefused,
    requestTimeoutMs,
    logger,
  };
}

/** Counts each append; an outage of the log is two log lines, however many requests meet it. */
function createAppendObserver(metrics: GatewayMetrics, logger: Logger): NonNullable<GroupCommitOptions["onAppend"]> {
  let failing = false;
  return (records, bytes, seconds, error) => {
    metrics.countAppend(records, bytes, seconds, error !== undefined);
    const failed = error !== undefined && !(error instanceof RecordTooLargeError);
    if (failed === failing) return;
    failing = failed;
    if (failed) logger.warn({ err: error }, "the event log does not take events; callers get 503 and Retry-After");
    else logger.info("the event log takes events again");
  };
}
