// A gateway on a free port over an in-memory SQLite log, and what a test asks of it afterwards.
import { Writable } from "node:stream";
import { Registry } from "prom-client";
import { z } from "zod";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { parseConfig } from "#lib/config/parse.ts";
import type { AppendRecord, OpenLog, Position, StoredRecord } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createLogger } from "#lib/process/log.ts";
import { startGateway } from "../../services/gateway/app.ts";
import type { IngressConfig } from "../../services/gateway/config.ts";
import { ingressSettings } from "../../services/gateway/config.ts";

export interface TestGateway extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** Records per append, in order. */
  readonly appends: readonly number[];
  /** Log lines written so far, as JSON text. */
  readonly lines: readonly string[];
  /** From now on every append is answered by this instead of the log; undefined: by the log again. */
  appendBy(answer: AppendAnswer | undefined): void;
  /** The consumers' group has stored everything below this offset. */
  storedUpTo(offset: number): void;
  /** Everything on the log, in offset order. */
  stored(): Promise<StoredRecord[]>;
  events(): Promise<EventRecord[]>;
  /** Sum of a metric over its labels. */
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  /** Stops the gateway; the log stays readable until disposed. */
  stop(): Promise<void>;
}

export type AppendAnswer = (records: readonly AppendRecord[], real: () => Promise<Position[]>) => Promise<Position[]>;

export async function startTestGateway(
  settings: Partial<IngressConfig> = {},
  nowMs?: () => number,
): Promise<TestGateway> {
  await using stack = new AsyncDisposableStack();
  const sqlite = await createSqliteLog({ file: ":memory:" });
  stack.use(sqlite);
  await sqlite.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);

  const appends: number[] = [];
  let answer: AppendAnswer | undefined;
  let storedEnd = 0;
  const log: OpenLog = {
    ...sqlite,
    committed: () => Promise.resolve(new Map([[0, { offset: storedEnd, metadata: "" }]])),
    async append(topic, records, signal) {
      appends.push(records.length);
      const real = () => sqlite.append(topic, records, signal);
      return await (answer ? answer(records, real) : real());
    },
  };
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const registry = new Registry();
  const config = { ...defaultSettings(), host: "127.0.0.1", port: 0, ...settings };
  const logger = createLogger({ level: "info", service: "gateway", stream });
  const gateway = stack.use(await startGateway(config, { log, registry, logger, ...(nowMs && { nowMs }) }));
  const owned = stack.move();

  async function stored(): Promise<StoredRecord[]> {
    const records: StoredRecord[] = [];
    for (;;) {
      const options = { from: records.length, maxRecords: 10_000, maxBytes: 64 * 1024 * 1024, maxWaitMs: 0 };
      const more = await sqlite.tail(EVENTS_TOPIC, 0, options);
      if (more.length === 0) return records;
      records.push(...more);
    }
  }

  return {
    port: gateway.port,
    url: `http://127.0.0.1:${gateway.port}`,
    appends,
    lines,
    appendBy(next) {
      answer = next;
    },
    storedUpTo(offset) {
      storedEnd = offset;
    },
    stored,
    events: async () => (await stored()).map((record) => decodeRecord(record.value)),
    async metric(name, labels = {}) {
      const values = (await registry.getSingleMetric(name)?.get())?.values ?? [];
      const wanted = Object.entries(labels);
      const matching = values.filter((each) => wanted.every(([label, value]) => each.labels[label] === value));
      return matching.reduce((sum, { value }) => sum + value, 0);
    },
    stop: () => Promise.resolve(gateway[Symbol.asyncDispose]()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function defaultSettings() {
  const input = { argv: [], env: {}, command: "test", summary: "" };
  const outcome = parseConfig(z.object(ingressSettings), input);
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config;
}
