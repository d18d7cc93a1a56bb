// The relay's HTTP port: routes, health, metrics.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import type { Health } from "#lib/http/health.ts";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
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
  const listener = await listenHttp({
    ...{ host, port, setting: "RELAY_HTTP_PORT", logger },
    ...SMALL_LISTENER,
    handle(anyRequest, anyResponse) {
      // What the routes use of them, HTTP/1.1 and HTTP/2 have in common; only the overloads of the types do not unite.
      const [request, response] = [anyRequest as IncomingMessage, anyResponse as ServerResponse];
      if (routes(request, response) || health.handle(request, response)) return;
      response.writeHead(404, { "content-type": "application/json" });
      response.end('{"error":"not found; there is /relays, /healthz, /readyz and /metrics"}\n');
    },
  });
  return { port: listener.port, [Symbol.asyncDispose]: () => listener.close(0) };
}
