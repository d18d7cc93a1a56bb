// What the stats service shows of events, console included, on a real port over any log and tables; and the commands that
// ask it.
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { Registry } from "prom-client";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { ALERTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startStats } from "../../services/stats/app.ts";
import { type StatsConfig, statsSettings } from "../../services/stats/config.ts";
import { callCommand, mainOf } from "./command.ts";

export interface EventViewsStage extends AsyncDisposable {
  readonly url: string;
  readonly registry: Registry;
  client<S extends DescService>(service: S, key?: string): Client<S>;
  /** `millrace <command> <args>`, in this process. */
  run(command: "where" | "status" | "tail", ...args: string[]): Promise<{ code: number; out: string; err: string }>;
}

export async function startEventViews(
  { log, warehouse }: { log: OpenLog; warehouse: Warehouse },
  settings: Partial<StatsConfig> = {},
): Promise<EventViewsStage> {
  await log.createTopics([{ topic: ALERTS_TOPIC, partitions: 1 }]);
  const outcome = parseConfig(z.object(statsSettings), { argv: [], env: {}, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  const registry = new Registry();
  const config = { ...outcome.config, host: "127.0.0.1", statsPort: 0, stopTimeout: 1_000, ...settings };
  const logger = pino({ level: "silent" });
  const stats = await startStats(config, { log, warehouse, registry, logger, console: {} });
  const url = `http://127.0.0.1:${stats.port}`;
  const token = settings.statsToken;
  return {
    url,
    registry,
    client: (service, key = token) =>
      createClient(
        service,
        createConnectTransport({
          ...{ baseUrl: url, httpVersion: "1.1" },
          interceptors: [
            (next) => (request) => {
              if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
              return next(request);
            },
          ],
        }),
      ),
    async run(command, ...args) {
      const env = { STATS_URL: url, ...(token !== undefined && { STATS_TOKEN: token }) };
      return callCommand(await mainOf(command), args, env);
    },
    [Symbol.asyncDispose]: () => stats[Symbol.asyncDispose](),
  };
}
