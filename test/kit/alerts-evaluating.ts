// Alerts under test: points as they arrived, receivers that behave as they are told, evaluations when the test says so.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { Registry } from "prom-client";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { ALERTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { AlertDefinition } from "../../services/stats/alerts/alert.ts";
import { type Alerts, type AlertsOptions, startAlerts } from "../../services/stats/alerts/evaluator.ts";
import type { AlertConfig } from "../../services/stats/alerts/evaluator-settings.ts";
import { createAlertStore, type StoredAlert } from "../../services/stats/alerts/store.ts";
import { until } from "./until.ts";

const CONFIG: AlertConfig = {
  alertInterval: 30_000,
  webhookTimeout: 5000,
  webhookSecret: undefined,
  webhookAllowPrivate: true,
};

/** Critical above 80, over a minute. */
export function definitionOf(metric: string, post: string, fields: Partial<AlertDefinition> = {}): AlertDefinition {
  return {
    ...{ tags: {}, metric, level: "crit", operator: "gt", operatorText: "gt", threshold: 80, thresholdText: undefined },
    ...{ durationMs: 60_000, durationText: "1m", post, groupBy: [], noData: "keep" },
    ...fields,
  };
}

export interface PointAt {
  metric: string;
  value: number;
  /** When the log took it, milliseconds. */
  arrivedMs: number;
  tags?: Record<string, string>;
  /** By its host's clock, milliseconds. Default: as it arrived. */
  timeMs?: number;
}

let offset = 0;

export async function insertPoints(warehouse: Warehouse, ...points: PointAt[]): Promise<void> {
  const rows = points.map(({ metric, value, arrivedMs, tags = {}, timeMs = arrivedMs }) => {
    const arrived = new Date(arrivedMs).toISOString();
    const time = new Date(timeMs).toISOString();
    return [randomUUID(), metric, value, tags, time, arrived, "r", "c", "e", "millrace.points", 0, offset++, arrived];
  });
  await warehouse.insert({
    table: "points",
    columns: [
      ...["uuid", "metric", "value", "tags", "time", "inserted_at", "relay_id", "collector"],
      ...["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"],
    ],
    rows: Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
    token: randomUUID(),
  });
}

export interface Received {
  headers: IncomingHttpHeaders;
  body: string;
  payload: { level: string; previousLevel: string; alertId: string; transitionId: string; [key: string]: unknown };
}

/** What a receiver does with a request: a status, a redirect to an address, or nothing for ever. */
export type Behaviour = number | { redirect: string } | "hang";

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  /** Requests that came, in order, also those it answered badly. */
  readonly received: readonly Received[];
  /** What it answered with 2xx. */
  readonly taken: readonly Received[];
  behave(behaviour: Behaviour): void;
}

export async function startReceiver(): Promise<Receiver> {
  let behaviour: Behaviour = 200;
  const received: Received[] = [];
  const taken: Received[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const one = { headers: request.headers, body, payload: JSON.parse(body) };
      received.push(one);
      if (behaviour === "hang") return;
      if (typeof behaviour === "object") return response.writeHead(302, { location: behaviour.redirect }).end();
      if (behaviour < 300) taken.push(one);
      return response.writeHead(behaviour).end("whatever");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    received,
    taken,
    behave(next) {
      behaviour = next;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface EvaluatorOptions extends Pick<AlertsOptions, "warehouse" | "store"> {
  nowMs: () => number;
  /** Default: one of its own, so that it is the only one to ask for the lease. */
  log?: OpenLog;
  config?: Partial<AlertConfig>;
}

export interface TestEvaluator extends AsyncDisposable {
  readonly alerts: Alerts;
  /** Value of a metric without labels, or with these as Prometheus writes them; undefined when it is absent. */
  metric(name: string): Promise<number | undefined>;
  /** Evaluates once more, and resolves when that is done. The first evaluation comes with the lease, by itself. */
  tick(): Promise<void>;
  /** Resolves when an evaluation has ended and the next one waits for its tick. */
  idle(): Promise<void>;
}

export async function memoryLog(): Promise<OpenLog> {
  const log = await createSqliteLog({ file: ":memory:" });
  await log.createTopics([{ topic: ALERTS_TOPIC, partitions: 1 }]);
  return log;
}

/** Asks for the lease; `idle` resolves when it was given. Failed webhooks are tried again within 50 ms. */
export async function startEvaluator(options: EvaluatorOptions): Promise<TestEvaluator> {
  const log = options.log ?? (await memoryLog());
  let idle = Promise.withResolvers<void>();
  let go = Promise.withResolvers<boolean>();
  const registry = new Registry();
  const { warehouse, store, nowMs } = options;
  const alerts = startAlerts({
    ...{ log, warehouse, store, nowMs, registry, logger: pino({ level: "silent" }) },
    config: { ...CONFIG, ...options.config },
    backoff: { baseMs: 10, capMs: 50 },
    pace(_lastBeganAt, signal) {
      go = Promise.withResolvers();
      const stop = () => go.resolve(false);
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      idle.resolve();
      return go.promise;
    },
  });
  return {
    alerts,
    async metric(name) {
      const line = (await registry.metrics()).split("\n").find((each) => each.startsWith(`${name} `));
      return line === undefined ? undefined : Number(line.slice(name.length));
    },
    async tick() {
      await idle.promise;
      idle = Promise.withResolvers();
      go.resolve(true);
      await idle.promise;
    },
    idle: () => idle.promise,
    async [Symbol.asyncDispose]() {
      await alerts[Symbol.asyncDispose]();
      if (!options.log) await log[Symbol.asyncDispose]();
    },
  };
}

export interface StoredTransition {
  id: string;
  previous: string;
  level: string;
  value: number | null;
  group: Record<string, string>;
  /** "": not known yet. */
  outcome: "" | "delivered" | "failed";
  attempts: number;
  status: number;
  error: string;
}

/** Changes of an alert as they are stored, in order, and what became of each. */
export function storedTransitions(warehouse: Warehouse, alertId: string): Promise<StoredTransition[]> {
  return warehouse.query<StoredTransition>(
    `SELECT toString(t.transition_id) AS id, toString(t.previous_transition_id) AS previous, t.level AS level,
       t.value AS value, t.group_tags AS group, o.outcome AS outcome, o.attempts AS attempts,
       o.http_status AS status, o.error AS error
     FROM (SELECT * FROM alert_events FINAL WHERE kind = 'transition') AS t
     LEFT JOIN (SELECT *, toString(kind) AS outcome FROM alert_events FINAL WHERE kind != 'transition') AS o
       ON t.transition_id = o.transition_id
     WHERE t.alert_id = {id:UUID} ORDER BY t.at`,
    { params: { id: alertId } },
  );
}

export interface AlertScene {
  readonly alert: StoredAlert;
  nowMs: number;
  readonly store: ReturnType<typeof createAlertStore>;
  /** A minute later: a point of this value has arrived since. */
  arrive(value: number, tags?: Record<string, string>): Promise<void>;
  /** A copy of the service, that has evaluated once. */
  start(options?: Partial<EvaluatorOptions>): ReturnType<typeof startEvaluator>;
  stored(): ReturnType<typeof storedTransitions>;
  /** Waits until each of so many changes was delivered or given up. */
  settled(count: number): ReturnType<typeof storedTransitions>;
}

/** A stored alert on a metric of its own. Other tests' alerts are not evaluated. */
export async function alertScene(
  warehouse: Warehouse,
  receiver: Pick<Receiver, "url">,
  fields: Partial<AlertDefinition> = {},
): Promise<AlertScene> {
  const metric = `m_${randomUUID()}`;
  const clock = { nowMs: 1_790_000_000_000 };
  const store = createAlertStore({ warehouse, nowMs: () => clock.nowMs });
  const alert = await store.create(definitionOf(metric, receiver.url, fields));
  const own = { list: async () => (await store.list()).filter(({ id }) => id === alert.id) };
  const stored = () => storedTransitions(warehouse, alert.id);
  return Object.assign(clock, {
    ...{ alert, store, stored },
    async arrive(value: number, tags = {}) {
      clock.nowMs += 60_000;
      await insertPoints(warehouse, { metric, value, tags, arrivedMs: clock.nowMs - 1 });
    },
    async start(options: Partial<EvaluatorOptions> = {}) {
      const evaluator = await startEvaluator({ warehouse, store: own, nowMs: () => clock.nowMs, ...options });
      await evaluator.idle();
      return evaluator;
    },
    async settled(count: number) {
      const isSettled = async () => (await stored()).filter(({ outcome }) => outcome !== "").length === count;
      await until(isSettled, `${count} changes are settled`);
      return stored();
    },
  });
}

/** Transition ids of messages, in their order. */
export function idsOf(messages: readonly Received[]): string[] {
  return messages.map(({ payload }) => payload.transitionId);
}
