// Alert routes and AlertService behind the stats service's own handler, on a real socket.
import { pino } from "pino";
import { Registry } from "prom-client";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { createHealth } from "#lib/http/health.ts";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createAccess } from "../../services/stats/access.ts";
import { createAlertRoutes } from "../../services/stats/alerts/routes.ts";
import { createAlertService } from "../../services/stats/alerts/rpc.ts";
import { createAlertStore } from "../../services/stats/alerts/store.ts";
import { createHistory } from "../../services/stats/alerts/store-history.ts";
import { createWebhook } from "../../services/stats/alerts/webhook.ts";
import { refusalOf } from "../../services/stats/alerts/webhook-address.ts";
import { createStatsHandler } from "../../services/stats/http.ts";
import { createStatsMetrics } from "../../services/stats/metrics.ts";
import type { Mounted } from "../../services/stats/mount.ts";
import { createStatsQueries } from "../../services/stats/queries/queries.ts";
import { createRoutes } from "../../services/stats/routes.ts";

export interface AlertsServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
}

interface Settings {
  token?: string;
  compat?: "readme" | "code";
  webhookAllowPrivate?: boolean;
}

/** Points are kept for 8 hours, so far as alerts are told. */
export async function startAlertsServer(
  warehouse: Warehouse,
  { token, compat = "readme", webhookAllowPrivate = true }: Settings = {},
): Promise<AlertsServer> {
  const registry = new Registry();
  const logger = pino({ level: "silent" });
  const nowMs = Date.now;
  const access = createAccess({ token, corsAllow: "*" });
  const queries = createStatsQueries({
    ...{ warehouse, maxConcurrent: 2, pollMs: 60_000, flushMs: 1_000, pointsKeptMs: undefined, nowMs },
    onQuery: () => {},
  });
  const store = createAlertStore({ warehouse, nowMs });
  const rules = { pointsRetentionMs: 8 * 3_600_000 };
  const warningOf = webhookAllowPrivate ? async () => undefined : refusalOf;
  const webhook = createWebhook({ webhookTimeout: 1_000, webhookSecret: undefined, webhookAllowPrivate }, nowMs);
  const service = createAlertService({
    ...{ store, rules, warningOf, history: createHistory(warehouse) },
    testFire: ({ id, post }, signal) => webhook({ post, body: JSON.stringify({ id }), transitionId: id, signal }),
  });
  const rpc = createRpcHandler<undefined>({
    ...{ maxMessageBytes: 1_048_576, keepsDeadlines: false, logger },
    shutdownSignal: new AbortController().signal,
    routes: (router) => router.service(AlertService, service),
  });
  const rpcs: Mounted = (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (!rpc.serves(path)) return false;
    void rpc.handle(request, response, path, undefined);
    return true;
  };
  const listener = await listenHttp({
    ...{ host: "127.0.0.1", port: 0, setting: "STATS_PORT", logger, ...SMALL_LISTENER },
    handle: createStatsHandler({
      health: createHealth({ checks: [], registry }),
      access,
      mounts: { open: [rpcs], guarded: [createAlertRoutes({ access, compat, logger, store, rules, warningOf })] },
      routes: createRoutes({ queries, access, compat, nowMs, logger, aggregateMs: 900_000, timeZone: "UTC" }),
      metrics: createStatsMetrics(registry),
    }),
  });
  return {
    url: `http://127.0.0.1:${listener.port}`,
    port: listener.port,
    [Symbol.asyncDispose]: () => listener.close(1_000),
  };
}
