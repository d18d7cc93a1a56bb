import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { describeListenError, type Health } from "#lib/runtime/health.ts";
import type { RelayRoutes } from "./routes.ts";

export interface HttpOptions {
  host: string;
  port: number;
  health: Health;
  routes: RelayRoutes;
  logger: Logger;
}

export interface RelayHttp extends AsyncDisposable {
  readonly port: number;
}

/** The relay's routes, health and metrics on a port of their own. */
export async function serveHttp({ host, port, health, routes, logger }: HttpOptions): Promise<RelayHttp> {
  const server = createServer((request, response) => {
    if (routes(request, response)) return;
    // Bodies are of no interest here; unread ones would block the connection.
    request.resume();
    if (health.handle(request, response)) return;
    response.writeHead(404, { "content-type": "application/json" });
    response.end('{"error":"not found; there is /relays, /healthz, /readyz and /metrics"}\n');
  });
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  server.maxConnections = 1_000;
  const listening = Promise.withResolvers<void>();
  server.once("error", listening.reject);
  server.listen(port, host, listening.resolve);
  try {
    await listening.promise;
  } catch (error) {
    throw describeListenError(error, { host, port, setting: "RELAY_HTTP_PORT" });
  }
  server.off("error", listening.reject);
  server.on("error", (err) => logger.error({ err }, "http listener failed"));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}
