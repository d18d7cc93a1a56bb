import { readFile } from "node:fs/promises";
import net from "node:net";
import tls from "node:tls";
import type { Logger } from "pino";
import { describeListenError } from "#lib/runtime/health.ts";
import type { RelayConfig } from "./config.ts";
import type { RelayMetrics } from "./metrics.ts";

export interface ListenerOptions {
  config: Pick<RelayConfig, "host" | "relayPort" | "relayMaxConnections" | "relayTlsCert" | "relayTlsKey">;
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
  const server = await createServer(config, onSocket);
  const sockets = new Set<net.Socket>();
  server.maxConnections = config.relayMaxConnections;
  // Of a TLS server this is the raw socket, so that those in a handshake are known as well.
  server.on("connection", (socket: net.Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("drop", () => metrics.drops.inc({ reason: "over_limit" }));
  server.on("tlsClientError", (err: Error) => {
    metrics.drops.inc({ reason: "tls" });
    logger.debug({ err }, "tls handshake failed");
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, backlog: BACKLOG }, () => {
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
  onSocket: (socket: net.Socket) => void,
): Promise<net.Server> {
  if (relayTlsCert === undefined || relayTlsKey === undefined) return net.createServer(onSocket);
  const [cert, key] = await Promise.all([
    readPem(relayTlsCert, "RELAY_TLS_CERT"),
    readPem(relayTlsKey, "RELAY_TLS_KEY"),
  ]);
  try {
    return tls.createServer({ cert, key, handshakeTimeout: HANDSHAKE_MS_MAX }, onSocket);
  } catch (cause) {
    throw new Error(`RELAY_TLS_CERT and RELAY_TLS_KEY are no certificate with its key: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function readPem(path: string, setting: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Error(`${setting}: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
