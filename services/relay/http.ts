// The relay's HTTP port: routes, health, metrics.
import type { Health } from "#lib/http/health.ts";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
import type { Logger } from "#lib/process/log.ts";
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
    handle(request, response) {
      if (routes(request, response) || health.handle(request, response)) return;
      response.writeHead(404, { "content-type": "application/json" });
      response.end('{"error":"not found; there is /relays, /healthz, /readyz and /metrics"}\n');
    },
  });
  return { port: listener.port, [Symbol.asyncDispose]: () => listener.close(0) };
}
