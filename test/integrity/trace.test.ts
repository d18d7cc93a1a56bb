import { expect, it } from "vitest";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { SPAN_KINDS, startTraceReceiver } from "../kit/otlp.ts";
import { spawnMillrace } from "../kit/processes.ts";

const choice = kafkaForTests();
const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const OTHER_TRACE = "1bf7651916cd43dd8448eb211c80319d";
const TOPIC = "millrace.events";

it.skipIf(!choice.available)(
  "one trace leads from the HTTP request over the Kafka record to the ClickHouse insert, named by the conventions",
  async () => {
    if (!choice.available) return;
    await using stack = new AsyncDisposableStack();
    const { brokers } = stack.use(await choice.start());
    const clickhouse = stack.use(await startTestClickHouse());
    const receiver = stack.use(await startTraceReceiver());
    const env = {
      KAFKA_BROKERS: brokers.join(","),
      KAFKA_PARTITIONS: "1",
      CLICKHOUSE_URL: clickhouse.url,
      HOST: "127.0.0.1",
      PORT: "0",
      CONSUMER_PORT: "0",
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    };
    expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
    const gateway = stack.use(spawnMillrace(["gateway"], env));
    const consumer = stack.use(spawnMillrace(["consumer"], env));
    const { port } = await gateway.logged("gateway listening");
    await consumer.logged("partition assigned");
    const post = async (path: string, traceId: string, body: object) => {
      const headers = { "content-type": "application/json", traceparent: `00-${traceId}-${CALLER.spanId}-01` };
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
      });
      expect(answer.status).toBe(200);
    };

    await post("/events", CALLER.traceId, { event_type: "traced", source: "test", created_at: "2026-01-01T00:00:00Z" });
    const insert = await receiver.spanNamed("INSERT events_raw");
    const rpc = "millrace.events.v1.EventService/Publish";
    await post(`/${rpc}`, OTHER_TRACE, { events: [{ event: "traced", distinctId: "a" }] });
    await gateway.stop("SIGTERM");
    const request = await receiver.spanNamed("POST /events");
    const send = await receiver.spanNamed(`send ${TOPIC}`);
    const process = await receiver.spanNamed(`process ${TOPIC}`);
    const call = await receiver.spanNamed(rpc);

    const { traceId } = CALLER;
    const messaging = { "messaging.system": "kafka", "messaging.destination.name": TOPIC };
    const link = expect.objectContaining({ traceId, spanId: request.spanId });
    expect(request).toMatchObject({ traceId, kind: SPAN_KINDS.server, parentSpanId: CALLER.spanId });
    expect(request.attributes).toEqual({
      "http.request.method": "POST",
      "http.route": "/events",
      "http.response.status_code": 200,
      "url.path": "/events",
      "url.scheme": "http",
      "network.protocol.version": "1.1",
    });
    expect(send).toMatchObject({ traceId, kind: SPAN_KINDS.producer, parentSpanId: request.spanId, links: [link] });
    expect(send.attributes).toEqual({
      ...messaging,
      "messaging.operation.name": "send",
      "messaging.operation.type": "send",
    });
    expect(process).toMatchObject({ traceId, kind: SPAN_KINDS.consumer, parentSpanId: request.spanId, links: [link] });
    expect(process.attributes).toEqual({
      ...messaging,
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.partition.id": "0",
      "messaging.consumer.group.name": expect.stringMatching(/^millrace/),
    });
    expect(insert).toMatchObject({ traceId, kind: SPAN_KINDS.client, parentSpanId: process.spanId });
    expect(insert.attributes).toEqual({
      "db.system.name": "clickhouse",
      "db.namespace": "millrace",
      "db.collection.name": "events_raw",
      "db.operation.name": "INSERT",
      "server.address": "127.0.0.1",
      "server.port": Number(new URL(clickhouse.url).port),
    });
    expect(call).toMatchObject({ traceId: OTHER_TRACE, kind: SPAN_KINDS.server, parentSpanId: CALLER.spanId });
    expect(call.attributes).toEqual({
      "rpc.system.name": "connectrpc",
      "rpc.method": rpc,
      "http.response.status_code": 200,
    });
  },
);
