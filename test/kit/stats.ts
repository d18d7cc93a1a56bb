// A stats service on a free port, over a database of its own and a clock that stands where it is told to.
import { Registry } from "prom-client";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { ALERTS_TOPIC, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { createLogger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startStats } from "../../services/stats/app.ts";
import { type StatsConfig, statsSettings } from "../../services/stats/config.ts";
import type { Mounted } from "../../services/stats/mount.ts";
import { type Answer, type Call, callH1 } from "./http-calls.ts";

/** What the clock of a TestStats says: 2026-09-20T12:07:30.500Z. */
export const NOW_MS = Date.UTC(2026, 8, 20, 12, 7, 30, 500);

export interface TestStats extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly registry: Registry;
  get(path: string, call?: Call): Promise<Answer>;
  /** The answer's JSON, of a request that is answered 200. */
  json<T>(path: string): Promise<T>;
}

/** Over the tables of `warehouse`; the log is in memory. */
export async function startTestStats(
  warehouse: Warehouse,
  settings: Partial<StatsConfig> = {},
  extraRoutes: readonly Mounted[] = [],
): Promise<TestStats> {
  await using stack = new AsyncDisposableStack();
  const log = await createSqliteLog({ file: ":memory:" });
  stack.use(log);
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC, ALERTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  const outcome = parseConfig(z.object(statsSettings), { argv: [], env: {}, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  const registry = new Registry();
  const logger = createLogger({ level: "silent", service: "test" });
  const stats = stack.use(
    await startStats(
      { ...outcome.config, host: "127.0.0.1", statsPort: 0, stopTimeout: 1_000, ...settings },
      { log, warehouse, registry, logger, extraRoutes, nowMs: () => NOW_MS },
    ),
  );
  const owned = stack.move();
  const get = (path: string, call: Call = {}) => callH1(stats.port, path, { method: "GET", ...call });
  return {
    port: stats.port,
    url: `http://127.0.0.1:${stats.port}`,
    registry,
    get,
    async json<T>(path: string) {
      const { status, text } = await get(path);
      if (status !== 200) throw new Error(`${path} answered ${status}: ${text}`);
      return JSON.parse(text) as T;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export interface StoredPoint {
  metric: string;
  value: number;
  tags?: Record<string, string>;
  /** Milliseconds before NOW_MS at which it was measured. */
  agoMs: number;
}

let offset = 0;

/** Rows of `points` as the consumer makes them, each appended when it was measured. */
export async function storePoints(warehouse: Warehouse, points: readonly StoredPoint[]): Promise<void> {
  const rows = points.map(({ metric, value, tags = {}, agoMs }) => {
    const at = new Date(NOW_MS - agoMs).toISOString();
    return [metric, value, tags, at, at, "r", "c", "test", POINTS_TOPIC, 0, offset++, at];
  });
  await warehouse.insert({
    table: "points",
    columns: [
      ...["metric", "value", "tags", "time", "inserted_at", "relay_id", "collector"],
      ...["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"],
    ],
    rows: Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
    token: `points-${offset}`,
  });
}
