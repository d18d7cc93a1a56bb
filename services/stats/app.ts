// Composition root of the stats service.
import { Code, ConnectError } from "@connectrpc/connect";
import type { Registry } from "prom-client";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { tlsFiles } from "#lib/config/tls-settings.ts";
import type { EventLog, LogReader } from "#lib/eventlog/log.ts";
import type { LogRetention } from "#lib/eventlog/retention.ts";
import { createHealth, type HealthCheck } from "#lib/http/health.ts";
import { listenHttp } from "#lib/http/listener.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createAccess } from "./access.ts";
import { startAlerts } from "./alerts/evaluator.ts";
import { createAlertRoutes } from "./alerts/routes.ts";
import { createAlertService } from "./alerts/rpc.ts";
import { createAlertStore } from "./alerts/store.ts";
import { createHistory } from "./alerts/store-history.ts";
import { refusalOf } from "./alerts/webhook-address.ts";
import type { StatsConfig } from "./config.ts";
import { type ConsoleParts, createConsole } from "./console/console.ts";
import { createEventAccess, type EventAccess } from "./event-access.ts";
import { registerEventQueries } from "./event-queries/service.ts";
import { createEventViews } from "./event-views.ts";
import { createStatsHandler } from "./http.ts";
import { createLive } from "./live/live.ts";
import { createWatchRoute } from "./live/sse.ts";
import { createStatsMetrics } from "./metrics.ts";
import type { Mounted, Mounts } from "./mount.ts";
import { createDeletions } from "./persons/deletions.ts";
import { createPersonsRpc } from "./persons/rpc.ts";
import { createStatsQueries } from "./queries/queries.ts";
import { createRunner } from "./queries/run.ts";
import type { RefusalSource } from "./receipts/refusals.ts";
import { STOPPING } from "./refusals.ts";
import { createRoutes } from "./routes.ts";
import { createStatsRpc } from "./rpc/rpc.ts";

/** Beside one for each watcher: a proxy that is everybody's brings them all from one address. */
const CONNECTIONS_PER_ADDRESS_MAX = 100;
const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 60_000;
/** How long an erasure waits for a consumer that does not move. */
const CONSUMER_PATIENCE_MS = 60_000;

export interface StatsParts {
  log: EventLog & LogReader;
  warehouse: Warehouse;
  registry: Registry;
  logger: Logger;
  /** What else is served on the port, each with rules of its own about who may call; the standalone adds /relays. */
  extraRoutes?: readonly Mounted[];
  /** How long the log keeps records, for the certificate of an erasure; undefined: it says that nobody knows. */
  retention?: () => Promise<LogRetention>;
  /** What else has to work for the process to be ready. */
  checks?: readonly HealthCheck[];
  /** The consumer's checks where it is in this process: they say why it waits. */
  consumerChecks?: readonly HealthCheck[];
  /** Where refusals are known; absent: REFUSALS_FROM are asked. */
  refusals?: RefusalSource;
  /** Directory of the log's file, for the room that its disk has. */
  logDirectory?: string;
  /** Whether `/alerts` is there. Default true. */
  hasAlertRoutes?: boolean;
  /** Whether browsers get the console; absent: the port answers them as any other client. */
  console?: ConsoleParts;
  nowMs?: () => number;
}

export interface Stats extends AsyncDisposable {
  readonly port: number;
}

/** Serves until disposed. Closes neither log nor warehouse, which it was handed. */
export async function startStats(config: StatsConfig, parts: StatsParts): Promise<Stats> {
  const { log, warehouse, registry, logger, extraRoutes = [], hasAlertRoutes = true, nowMs = Date.now } = parts;
  const metrics = createStatsMetrics(registry);
  const asking = { warehouse, maxConcurrent: config.statsMaxQueries, onQuery: metrics.timeQuery };
  const runner = createRunner(asking);
  const queries = createStatsQueries({
    ...asking,
    runner,
    pollMs: config.pollInterval,
    flushMs: config.flushInterval,
    pointsKeptMs: config.pointsRetention,
    nowMs,
  });
  const access = createAccess({ token: config.statsToken, corsAllow: config.corsAllow });
  const checks: HealthCheck[] = [
    { name: "clickhouse", check: (signal) => warehouse.ping(signal) },
    { name: "log", check: () => log.check() },
  ];
  const health = createHealth({ checks: [...checks, ...(parts.checks ?? [])], registry });
  const { pulseCompat: compat } = config;
  await using stack = new AsyncDisposableStack();

  const store = createAlertStore({ warehouse, nowMs });
  const rules = { pointsRetentionMs: config.pointsRetention ?? Number.POSITIVE_INFINITY };
  const { testFire } = stack.use(startAlerts({ log, warehouse, store, config, registry, logger, nowMs }));
  const warningOf = config.webhookAllowPrivate ? async () => undefined : refusalOf;
  const alertService = createAlertService({ store, history: createHistory(warehouse), rules, warningOf, testFire });

  const live = stack.use(createLive({ log, maxWatchers: config.statsMaxWatchers, registry, logger }));
  const stopping = new AbortController();
  const eventAccess = eventAccessOf(config);
  const viewing = { access: eventAccess, runner, shutdownSignal: stopping.signal };
  const events = stack.use(createEventViews(config, parts, viewing));
  const rpc = createStatsRpc({
    ...{
      queries,
      live,
      access,
      eventAccess,
      registry,
      logger,
      nowMs,
      shutdownSignal: stopping.signal,
    },
    registerOthers(router, hangUp) {
      router.service(AlertService, alertService);
      registerEventQueries(router, { warehouse, runner, nowMs });
      events.register(router, hangUp);
    },
  });
  const persons = mountPersons(config, parts, stopping.signal, stack);
  const consoles = parts.console ? [createConsole({ ...consoleOf(config), ...parts.console, logger })] : [];
  const mounts: Mounts = {
    // In the order in which they are asked.
    open: [...extraRoutes, ...consoles, persons, rpc, events.routes, createWatchRoute({ live, access })],
    guarded: hasAlertRoutes ? [createAlertRoutes({ store, rules, warningOf, compat, access, logger })] : [],
  };
  const routes = createRoutes({
    ...{ queries, access, compat, nowMs, logger },
    ...{ aggregateMs: config.aggregateInterval, timeZone: config.timeZone },
  });
  const maxPerAddress = config.statsMaxWatchers + CONNECTIONS_PER_ADDRESS_MAX;
  const listener = await listenHttp({
    ...{ host: config.host, port: config.statsPort, setting: "STATS_PORT", logger },
    tls: tlsFiles(config.tlsCert, config.tlsKey, "TLS"),
    maxConnections: 4 * maxPerAddress,
    maxPerAddress,
    headersTimeoutMs: HEADERS_MS_MAX,
    requestTimeoutMs: REQUEST_MS_MAX,
    idleTimeoutMs: config.keepAliveTimeout,
    handle: createStatsHandler({ health, access, mounts, routes, metrics }),
  });
  logger.info({ host: config.host, port: listener.port }, "stats listening");

  const owned = stack.move();
  async function stop(): Promise<void> {
    health.setDraining();
    stopping.abort(new ConnectError(STOPPING, Code.Unavailable));
    // Ends the watches, or their connections would be waited for.
    await Promise.all([live[Symbol.asyncDispose](), events.tails[Symbol.asyncDispose]()]);
    await listener.close(config.stopTimeout);
    await owned.disposeAsync();
    logger.info("stats stopped");
  }
  let stopped: Promise<void> | undefined;
  return {
    port: listener.port,
    [Symbol.asyncDispose]() {
      stopped ??= stop();
      return stopped;
    },
  };
}

function eventAccessOf(config: StatsConfig): EventAccess {
  const { statsToken: token, publicApiKeys: publicKeys, secretApiKeys: secretKeys, host, corsAllow } = config;
  return createEventAccess({ token, publicKeys, secretKeys, host, corsAllow });
}

function consoleOf({ statsToken, publicApiKeys, secretApiKeys, gatewayPublicUrl: gatewayUrl }: StatsConfig) {
  return {
    gatewayUrl,
    asksForKey: statsToken !== undefined || secretApiKeys.length > 0,
    gatewayHasKeys: publicApiKeys.length + secretApiKeys.length > 0,
    canReplay: secretApiKeys.some((key) => !publicApiKeys.includes(key)),
  };
}

function mountPersons(
  config: StatsConfig,
  { log, warehouse, logger, retention }: StatsParts,
  stopSignal: AbortSignal,
  stack: AsyncDisposableStack,
): Mounted {
  const stopMs = config.stopTimeout;
  const deletions = stack.use(
    createDeletions({ log, warehouse, logger, patienceMs: CONSUMER_PATIENCE_MS, stopSignal, stopMs }),
  );
  return createPersonsRpc({
    ...{ publicKeys: config.publicApiKeys, secretKeys: config.secretApiKeys },
    ...{ warehouse, deletions, shutdownSignal: stopSignal, logger },
    retention: retention ?? (async () => ({ keptMs: undefined, why: "until its retention removes them" })),
  });
}
