// The RPCs of the stats service and GET /watch on a real port, over any log.
import { getEventListeners } from "node:events";
import {
  type Client,
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type Interceptor,
} from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import pino, { type Logger } from "pino";
import { Registry } from "prom-client";
import { StatsService, type WatchResponse, WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import type { AppendRecord, LogReader, OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
import { createAccess } from "../../services/stats/access.ts";
import { createEventAccess } from "../../services/stats/event-access.ts";
import { createLive, type Live } from "../../services/stats/live/live.ts";
import { createWatchRoute } from "../../services/stats/live/sse.ts";
import type { StatsQueries } from "../../services/stats/queries/queries.ts";
import { createStatsRpc } from "../../services/stats/rpc/rpc.ts";

export const TOKEN = "a token";

export interface TestStatsOptions {
  log: LogReader;
  queries?: StatsQueries;
  maxWatchers?: number;
  /** Null: none is asked for. */
  token?: string | null;
  corsAllow?: string;
  registerOthers?: (router: ConnectRouter) => void;
  heartbeatMs?: number;
  logger?: Logger;
}

export interface TestStats extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly live: Live;
  /** Listeners for the service's stop. */
  readonly stopListeners: number;
  /** Value of a metric without labels, or the sum over its labels. */
  metric(name: string): Promise<number>;
  /** Ends calls and watches; the port goes on listening. */
  stop(): Promise<void>;
}

/** Queries are refused when none are given. */
export async function startTestStats(options: TestStatsOptions): Promise<TestStats> {
  const { log, maxWatchers = 200, token = TOKEN, corsAllow = "*", logger = pino({ level: "silent" }) } = options;
  const registry = new Registry();
  const stopping = new AbortController();
  const heartbeat = options.heartbeatMs === undefined ? {} : { heartbeatMs: options.heartbeatMs };
  const live = createLive({ log, maxWatchers, registry, logger, ...heartbeat });
  const access = createAccess({ token: token ?? undefined, corsAllow });
  const shared = { live, access };
  const queries = options.queries as StatsQueries;
  const rpc = createStatsRpc({
    ...{ ...shared, queries, registry, logger },
    registerOthers: options.registerOthers,
    eventAccess: createEventAccess({
      token: token ?? undefined,
      publicKeys: [],
      secretKeys: [],
      host: "127.0.0.1",
      corsAllow,
    }),
    shutdownSignal: stopping.signal,
    nowMs: Date.now,
  });
  const watch = createWatchRoute(shared);
  const listener = await listenHttp({
    ...{ ...SMALL_LISTENER, host: "127.0.0.1", port: 0, setting: "STATS_PORT", logger },
    handle(request, response) {
      if (rpc(request, response) || watch(request, response)) return;
      response.statusCode = 404;
      response.end();
    },
  });
  async function stop(): Promise<void> {
    stopping.abort(new ConnectError("the stats service is stopping", Code.Unavailable));
    await live[Symbol.asyncDispose]();
  }
  return {
    port: listener.port,
    url: `http://127.0.0.1:${listener.port}`,
    live,
    get stopListeners() {
      return getEventListeners(stopping.signal, "abort").length;
    },
    async metric(name) {
      const found = await registry.getSingleMetric(name)?.get();
      return found?.values.reduce((sum, { value }) => sum + value, 0) ?? Number.NaN;
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      await listener.close(500);
    },
  };
}

/** An empty log with both topics. */
export async function memoryLog(): Promise<OpenLog> {
  const log = await createSqliteLog({ file: ":memory:" });
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  return log;
}

export function appendPoints(log: OpenLog, ...records: AppendRecord[]) {
  return log.append(POINTS_TOPIC, records);
}

export type Protocol = "connect" | "grpc" | "grpc-web";

export function clientOf(
  { url: baseUrl }: Pick<TestStats, "url">,
  protocol: Protocol = "connect",
  httpVersion: "1.1" | "2" = protocol === "grpc" ? "2" : "1.1",
  token = TOKEN,
): Client<typeof StatsService> {
  const authorise: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const options = { baseUrl, interceptors: [authorise] };
  if (protocol === "grpc") return createClient(StatsService, createGrpcTransport(options));
  const make = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
  return createClient(StatsService, make({ ...options, httpVersion }));
}

/** What a watch has been sent, growing. */
export interface Watching extends Disposable {
  readonly messages: WatchResponse[];
  /** "metric=value" of each point, in order. */
  readonly points: string[];
  readonly last: WatchResponse["status"];
  readonly isLive: boolean;
  /** Resolves when the stream has ended, with its error if there was one. */
  readonly ended: Promise<ConnectError | undefined>;
}

/** Reads the stream until it ends or this is disposed. */
export function watching(stream: (signal: AbortSignal) => AsyncIterable<WatchResponse>): Watching {
  const messages: WatchResponse[] = [];
  const leaving = new AbortController();
  async function read(): Promise<ConnectError | undefined> {
    try {
      for await (const message of stream(leaving.signal)) messages.push(message);
      return undefined;
    } catch (error) {
      return ConnectError.from(error);
    }
  }
  const ended = read();
  const last = () => messages.findLast(({ status }) => status !== undefined)?.status;
  return {
    messages,
    get points() {
      return messages.flatMap(({ points }) => points.map(({ metric, value }) => `${metric}=${value}`));
    },
    get last() {
      return last();
    },
    get isLive() {
      return last()?.state === WatchState.LIVE;
    },
    ended,
    [Symbol.dispose]: () => leaving.abort(),
  };
}
