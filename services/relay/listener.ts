// Accepts agents over TCP or TLS, up to a limit.
import net from "node:net";
import { tlsFiles } from "#lib/config/tls-settings.ts";
import { listenHost } from "#lib/http/addresses.ts";
import { limitConnections } from "#lib/http/connection-limits.ts";
import { describeListenError } from "#lib/http/listen-error.ts";
import { createTlsServer } from "#lib/http/tls.ts";
import type { Logger } from "#lib/process/log.ts";
import type { RelayConfig } from "./config.ts";
import type { DropReason, RelayMetrics } from "./metrics.ts";

export interface ListenerOptions {
  config: Pick<
    RelayConfig,
    "host" | "relayPort" | "relayMaxConnections" | "relayMaxConnectionsPerAddress" | "relayTlsCert" | "relayTlsKey"
  >;
  onSocket(socket: net.Socket): void;
  metrics: Pick<RelayMetrics, "drops">;
  logger: Logger;
}

export interface Listener {
  readonly port: number;
  /** Takes no more connections and cuts off those that are open; resolves when all are gone. */
  close(): Promise<void>;
}

const HANDSHAKE_MS_MAX = 10_000;
const BACKLOG = 1_024;

/** Accepts relays over TCP, or TLS when there is a certificate. Rejects with a sentence when port or files are no good. */
export async function listenForRelays({ config, onSocket, metrics, logger }: ListenerOptions): Promise<Listener> {
  const { host, relayPort: port } = config;
  const server = await createServer(config, logger);
  const sockets = new Set<net.Socket>();
  const limits = { maxConnections: config.relayMaxConnections, maxPerAddress: config.relayMaxConnectionsPerAddress };
  const onRefused = (reason: DropReason) => metrics.drops.inc({ reason });
  // Of a TLS server these are the raw sockets, so that those in a handshake are known as well.
  limitConnections(server, limits, { setting: "RELAY_PORT", logger, onRefused }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    if (config.relayTlsCert === undefined) onSocket(socket);
  });
  server.on("secureConnection", onSocket);
  server.on("tlsClientError", () => metrics.drops.inc({ reason: "tls" }));
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: listenHost(host), port, backlog: BACKLOG }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (error) {
    throw describeListenError(error, { host, port, setting: "RELAY_PORT" });
  }
  server.on("error", (err) => logger.error({ err }, "cannot accept relays"));
  return {
    port: (server.address() as net.AddressInfo).port,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function createServer(
  { relayTlsCert, relayTlsKey }: ListenerOptions["config"],
  logger: Logger,
): Promise<net.Server> {
  const files = tlsFiles(relayTlsCert, relayTlsKey, "RELAY_TLS");
  if (!files) return net.createServer();
  return createTlsServer({ files, handshakeTimeoutMs: HANDSHAKE_MS_MAX, logger });
}
