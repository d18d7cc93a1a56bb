// Composition root of the relay service.
import { randomBytes } from "node:crypto";
import type { Registry } from "prom-client";
import type { EventLog } from "#lib/eventlog/log.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { createHealth } from "#lib/http/health.ts";
import type { Logger } from "#lib/process/log.ts";
import type { RelayConfig } from "./config.ts";
import { type RelayConnection, serveConnection } from "./connection.ts";
import { serveHttp } from "./http.ts";
import { createIdentify } from "./identify.ts";
import { listenForRelays } from "./listener.ts";
import { createRelayMetrics } from "./metrics.ts";
import { createPointLog } from "./point-log.ts";
import { createPoints } from "./points.ts";
import { createRoutes, type RelayRoutes } from "./routes.ts";

/** What pulse takes a poll interval of 0 for. */
const POLL_MS_DEFAULT = 60_000;

export interface RelayParts {
  log: EventLog;
  registry: Registry;
  logger: Logger;
  nowMs?: () => number;
}

export interface RelayOptions extends RelayParts {
  config: RelayConfig & { stopTimeout: number };
  /** What `/relays` asks for, where the service that mounts it has a token of its own; RELAY_TOKEN otherwise. */
  routesToken?: string | undefined;
}

export interface Relay extends AsyncDisposable {
  /** Of the line protocol. */
  readonly port: number;
  /** `/relays` and what is below it, for the HTTP server that mounts this. */
  readonly routes: RelayRoutes;
}

/** Polls relays and puts their points on the log until disposed. Does not close the log, which it was handed. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const { config, log, registry, logger, routesToken: token = config.relayToken, nowMs = Date.now } = options;
  const connections = new Set<RelayConnection>();
  const metrics = createRelayMetrics(registry, {
    connections: () => connections.size,
    bufferBytes: () => points.bytes,
  });
  const points = createPointLog({
    append: (records, signal) => log.append(POINTS_TOPIC, records, signal),
    maxBytes: config.relayBufferBytes,
    metrics,
    logger,
  });
  const add = points.add.bind(points);
  const pollIntervalMs = config.pollInterval || POLL_MS_DEFAULT;
  const connectionOptions = {
    beatSeconds: Math.floor(config.beatInterval / 1_000),
    readTimeoutMs: 2 * config.beatInterval,
    polledReadTimeoutMs: pollIntervalMs + 2 * config.beatInterval,
    lineBytesMax: config.relayMaxLineBytes,
    answersAdd: config.pulseCompat === "readme",
    identify: createIdentify(config.relayToken),
    takePoints: createPoints({ bootId: randomBytes(16), nowMs, metrics, add }),
    metrics,
    nowMs,
    onIdentified: (connection: RelayConnection) => void connections.add(connection),
    onClosed: (connection: RelayConnection) => void connections.delete(connection),
  };
  const onSocket = (socket: Parameters<typeof serveConnection>[0]) => serveConnection(socket, connectionOptions);
  const listener = await listenForRelays({ config, onSocket, metrics, logger });
  const poller = setInterval(() => {
    for (const connection of connections) connection.poll();
  }, pollIntervalMs);
  logger.info({ host: config.host, port: listener.port, tls: config.relayTlsCert !== undefined }, "relay listening");

  async function stop(): Promise<void> {
    clearInterval(poller);
    await listener.close();
    await points.close(config.stopTimeout);
    logger.info("relay stopped");
  }
  let stopped: Promise<void> | undefined;
  return {
    port: listener.port,
    routes: createRoutes({ connections, token, host: config.host, logger }),
    [Symbol.asyncDispose]() {
      stopped ??= stop();
      return stopped;
    },
  };
}

export interface RelayService extends AsyncDisposable {
  readonly port: number;
  readonly httpPort: number;
}

/** The relay with an HTTP port of its own: `/relays`, health and metrics. */
export async function startRelayService(
  config: RelayOptions["config"] & { relayHttpPort: number },
  parts: RelayParts,
): Promise<RelayService> {
  await using stack = new AsyncDisposableStack();
  const { log, registry, logger } = parts;
  const health = createHealth({ checks: [{ name: "log", check: () => log.check() }], registry });
  const relay = await startRelay({ ...parts, config });
  const { host, relayHttpPort: port } = config;
  stack.use(relay);
  // Disposed of last, so that /readyz says draining while the points go to the log.
  const http = await serveHttp({ host, port, health, routes: relay.routes, logger });
  logger.info({ host, port: http.port }, "relays, health and metrics are served");
  const owned = stack.move();
  return {
    port: relay.port,
    httpPort: http.port,
    async [Symbol.asyncDispose]() {
      health.setDraining();
      await owned.disposeAsync();
      await http[Symbol.asyncDispose]();
    },
  };
}
