import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { startTestClickHouse } from "../support/clickhouse.ts";
import { kafkaForTests } from "../support/kafka.ts";
import { spawnMillrace } from "../support/processes.ts";

interface Span {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  links?: { traceId: string; spanId: string }[];
}

interface TraceExport {
  resourceSpans: { scopeSpans: { spans: Span[] }[] }[];
}

const choice = kafkaForTests();
const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };

it.skipIf(!choice.available)(
  "one trace leads from the HTTP request over the Kafka record to the ClickHouse insert",
  async () => {
    if (!choice.available) return;
    await using stack = new AsyncDisposableStack();
    const { brokers } = stack.use(await choice.start());
    const clickhouse = stack.use(await startTestClickHouse());
    const collector = await startCollector();
    stack.defer(collector.close);
    const env = {
      KAFKA_BROKERS: brokers.join(","),
      KAFKA_PARTITIONS: "1",
      CLICKHOUSE_URL: clickhouse.url,
      HOST: "127.0.0.1",
      PORT: "0",
      CONSUMER_PORT: "0",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    };
    expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
    const gateway = stack.use(spawnMillrace(["gateway"], env));
    const consumer = stack.use(spawnMillrace(["consumer"], env));
    const { port } = await gateway.logged("gateway listening");
    await consumer.logged("partition assigned");

    const response = await fetch(`http://127.0.0.1:${port}/events`, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01` },
      body: JSON.stringify({ event_type: "traced", source: "test", created_at: "2026-01-01T00:00:00Z" }),
    });
    expect(response.status).toBe(200);
    const insert = await collector.spanNamed("insert events_raw");
    await gateway.stop("SIGTERM");
    const request = await collector.spanNamed("POST /events");
    const process = await collector.spanNamed("process millrace.events");

    expect(request).toMatchObject({ traceId: CALLER.traceId, parentSpanId: CALLER.spanId });
    expect(process).toMatchObject({ traceId: CALLER.traceId, parentSpanId: request.spanId });
    expect(process.links).toEqual([expect.objectContaining({ traceId: CALLER.traceId, spanId: request.spanId })]);
    expect(insert).toMatchObject({ traceId: CALLER.traceId, parentSpanId: process.spanId });
  },
);

async function startCollector() {
  const spans: Span[] = [];
  const server = createServer(async (request, response) => {
    const { resourceSpans } = (await json(request)) as TraceExport;
    for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
    response.setHeader("content-type", "application/json").end("{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async spanNamed(name: string): Promise<Span> {
      for (let attempt = 0; attempt < 300; attempt++) {
        const span = spans.find((one) => one.name === name);
        if (span) return span;
        await sleep(100);
      }
      throw new Error(`no span "${name}" among ${spans.map((span) => span.name).join(", ")}`);
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
