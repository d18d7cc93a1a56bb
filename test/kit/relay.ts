// A relay service on free ports over a log of the test's choice, and a peer that speaks its protocol byte by byte.
import net from "node:net";
import { Writable } from "node:stream";
import { Registry } from "prom-client";
import { expect, vi } from "vitest";
import { z } from "zod";
import type { PointRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { parseConfig } from "#lib/config/parse.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { decodePoint } from "#lib/events/point-record.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { createLogger } from "#lib/process/log.ts";
import { startRelayService } from "../../services/relay/app.ts";
import { type RelaySettings, relaySettings } from "../../services/relay/config.ts";
import { readRange, tailing } from "./eventlog-reading.ts";
import { patience } from "./patience.ts";

const WAIT = { timeout: patience(10_000), interval: 10 };

export interface TestRelay extends AsyncDisposable {
  readonly port: number;
  readonly httpUrl: string;
  readonly lines: readonly string[];
  connect(): Promise<Peer>;
  /** Waits until the topic has so many records, and fails if it has more by then. */
  points(count: number): Promise<PointRecord[]>;
  /** What the topic has by now. */
  pointsSoFar(): Promise<PointRecord[]>;
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  /** Waits until a metric has at least this value. */
  metricReaches(name: string, value: number, labels?: Record<string, string>): Promise<void>;
  /** Stops the service; the log stays readable until disposed. */
  stop(): Promise<void>;
}

/** The log is an SQLite one in memory unless one with a single partition is given. */
export async function startTestRelay(
  settings: Partial<RelaySettings & { host: string; stopTimeout: number }> = {},
  givenLog?: OpenLog,
): Promise<TestRelay> {
  await using stack = new AsyncDisposableStack();
  const log = givenLog ?? (await createSqliteLog({ file: ":memory:" }));
  if (!givenLog) stack.use(log);
  await log.createTopics([{ topic: POINTS_TOPIC, partitions: 1 }]);
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const outcome = parseConfig(z.object(relaySettings), { argv: [], env: {}, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  const ports = { host: "127.0.0.1", relayPort: 0, relayHttpPort: 0, stopTimeout: 5_000 };
  const registry = new Registry();
  const logger = createLogger({ level: "info", service: "relay", stream });
  const config = { ...outcome.config, ...ports, ...settings };
  const relay = stack.use(await startRelayService(config, { log, registry, logger }));
  const owned = stack.move();

  async function read(count: number): Promise<PointRecord[]> {
    const records = await readRange(tailing(log, POINTS_TOPIC, 0), 0, count);
    return records.map((record) => decodePoint(record.value));
  }

  async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
    const values = (await registry.getSingleMetric(name)?.get())?.values ?? [];
    const wanted = Object.entries(labels);
    const matching = values.filter((each) => wanted.every(([label, value]) => each.labels[label] === value));
    return matching.reduce((sum, { value }) => sum + value, 0);
  }

  return {
    port: relay.port,
    httpUrl: `http://127.0.0.1:${relay.httpPort}`,
    lines,
    connect: () => connectPeer(relay.port),
    async points(count) {
      const found = await read(count);
      expect((await log.bounds(POINTS_TOPIC))[0]?.end).toBe(count);
      return found;
    },
    pointsSoFar: async () => read((await log.bounds(POINTS_TOPIC))[0]?.end ?? 0),
    metric,
    metricReaches: (name, value, labels) =>
      vi.waitFor(async () => expect(await metric(name, labels)).toBeGreaterThanOrEqual(value), WAIT),
    stop: () => Promise.resolve(relay[Symbol.asyncDispose]()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** One end of a line protocol. */
export interface Peer extends AsyncDisposable {
  readonly socket: net.Socket;
  send(bytes: string | Uint8Array): void;
  /** Waits for exactly these bytes, next in turn; fails at the first that differs. */
  receives(bytes: string): Promise<void>;
  /** Waits for a line and hands it over, without its LF. */
  line(): Promise<string>;
  /** Waits for the other side's end, and fails if anything else came before it. */
  closes(): Promise<void>;
}

export async function connectPeer(port: number): Promise<Peer> {
  const socket = net.connect({ host: "127.0.0.1", port });
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return createPeer(socket);
}

export function createPeer(socket: net.Socket): Peer {
  let received = "";
  let isClosed = false;
  let changed = Promise.withResolvers<void>();
  const change = () => {
    changed.resolve();
    changed = Promise.withResolvers();
  };
  socket.setEncoding("utf8").on("data", (text) => {
    received += text;
    change();
  });
  socket.on("error", () => socket.destroy());
  socket.once("close", () => {
    isClosed = true;
    change();
  });

  /** Also resolves when it is too late; what is missing is told by the caller's comparison. */
  async function until(isDone: () => boolean): Promise<void> {
    const expired = Promise.withResolvers<true>();
    const timer = setTimeout(() => expired.resolve(true), WAIT.timeout);
    while (!isDone() && !isClosed && (await Promise.race([changed.promise, expired.promise])) !== true);
    clearTimeout(timer);
  }

  return {
    socket,
    send: (bytes) => void socket.write(bytes),
    async receives(bytes) {
      const isEnough = () => received.length >= bytes.length || !bytes.startsWith(received);
      await until(isEnough);
      expect(received.slice(0, bytes.length)).toBe(bytes);
      received = received.slice(bytes.length);
    },
    async line() {
      await until(() => received.includes("\n"));
      const [line = "", ...rest] = received.split("\n");
      expect(rest.length, `a whole line, not ${JSON.stringify(received)}`).toBeGreaterThan(0);
      received = rest.join("\n");
      return line;
    },
    async closes() {
      await until(() => isClosed);
      expect({ isClosed, received }).toEqual({ isClosed: true, received: "" });
    },
    [Symbol.asyncDispose]() {
      socket.destroy();
      return Promise.resolve();
    },
  };
}
