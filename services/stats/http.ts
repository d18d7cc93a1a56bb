// The stats port: who is asked in which order.

import { sendEmpty } from "#lib/http/answers.ts";
import type { Health } from "#lib/http/health.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import type { Access } from "./access.ts";
import { FOREIGN_PAGE, sendJson, sendText } from "./answers.ts";
import type { StatsMetrics } from "./metrics.ts";
import type { Mounts } from "./mount.ts";
import { cleanPath, pathOf, segmentsOf } from "./query-string.ts";

export interface StatsHandlerOptions {
  health: Health;
  access: Access;
  mounts: Mounts;
  /** Answers what is left; hands back the route's name for metrics. */
  routes: (request: HttpRequest, response: HttpResponse, path: string) => string;
  metrics: Pick<StatsMetrics, "countRequest">;
}

/** Health, what has rules of its own, preflights, the token, what is mounted behind it, pulse's routes: in this order. */
export function createStatsHandler({ health, access, mounts, routes, metrics }: StatsHandlerOptions) {
  function answer(request: HttpRequest, response: HttpResponse): string {
    if (health.handle(request, response)) return "health";
    if (mounts.open.some((handle) => handle(request, response))) return "mounted";
    if (request.method === "OPTIONS") {
      access.allowOrigin(response);
      sendJson(response, 200, { msg: "Success" });
      return "options";
    }
    if (!access.isAllowed(request)) {
      sendEmpty(response, 401);
      return "unauthorised";
    }
    if (access.isForeignChange(request)) {
      sendJson(response, 403, FOREIGN_PAGE);
      return "foreign";
    }
    const path = pathOf(request);
    if (path === undefined) {
      sendText(response, 400, "400 Bad Request\n");
      return "unknown";
    }
    const clean = cleanPath(path);
    if (clean !== path) {
      // Encoded again, so that no byte of the path can end the header or name another host.
      sendEmpty(response, 301, { location: `/${segmentsOf(clean).map(encodeURIComponent).join("/")}` });
      return "unclean";
    }
    if (mounts.guarded.some((handle) => handle(request, response))) return "mounted";
    return routes(request, response, path);
  }

  return (request: HttpRequest, response: HttpResponse): void => {
    // Known when the answer is under way, as late as its end for a stream.
    let route = "unknown";
    response.once("close", () => metrics.countRequest(route, response.statusCode));
    route = answer(request, response);
  };
}
