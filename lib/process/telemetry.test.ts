import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { atMost } from "../../test/kit/patience.ts";
import { createLogger } from "./log.ts";
import { contextFrom, linksTo, startTelemetry, telemetryEnabled, traceparentOf, withSpan } from "./telemetry.ts";

interface ReceivedSpan {
  name: string;
  kind: number;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  links?: { traceId: string; spanId: string }[];
  status: { code?: number; message?: string };
  events?: { name: string }[];
}

interface TraceExport {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] };
    scopeSpans: { spans: ReceivedSpan[] }[];
  }[];
}

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID = "b7ad6b7169203331";
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;
const logger = createLogger({ level: "silent", service: "test" });

let collector: Server;
let endpoint: string;
let exported: TraceExport[];

beforeEach(async () => {
  exported = [];
  collector = createServer(async (request, response) => {
    if (request.url === "/v1/traces") exported.push((await json(request)) as TraceExport);
    response.setHeader("Content-Type", "application/json").end("{}");
  });
  collector.listen(0, "127.0.0.1");
  await once(collector, "listening");
  endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
});

afterEach(async () => {
  collector.close();
  collector.closeAllConnections();
  await once(collector, "close");
});

/** The spans that reach a collector from `work`, by name. */
async function spansOf(work: () => Promise<void>, env: Record<string, string> = {}) {
  const telemetry = await startTelemetry({
    service: "gateway",
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: `${endpoint}/`, ...env },
    logger,
  });
  try {
    await work();
  } finally {
    await telemetry[Symbol.asyncDispose]();
  }
  const spans = exported.flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
  );
  return new Map(spans.map((span) => [span.name, span]));
}

it("sends spans with the caller's trace and the right parents", async () => {
  let inner: string | undefined;
  const spans = await spansOf(async () => {
    expect(telemetryEnabled()).toBe(true);
    await withSpan("request", { kind: "server", parent: contextFrom(TRACEPARENT) }, () =>
      withSpan("append", { kind: "producer" }, async (span) => {
        inner = traceparentOf(span);
        expect(traceparentOf()).toBe(inner);
      }),
    );
  });
  const request = spans.get("request");
  const append = spans.get("append");
  expect(request).toMatchObject({ traceId: TRACE_ID, parentSpanId: SPAN_ID, kind: 2 });
  expect(append).toMatchObject({ traceId: TRACE_ID, parentSpanId: request?.spanId, kind: 4 });
  expect(inner).toBe(`00-${TRACE_ID}-${append?.spanId}-01`);
  const attributes = exported[0]?.resourceSpans[0]?.resource.attributes ?? [];
  expect(attributes.find(({ key }) => key === "service.name")?.value.stringValue).toBe("millrace-gateway");
  expect(telemetryEnabled()).toBe(false);
});

it("links a batch once to each request that it serves, in a trace of its own", async () => {
  const spans = await spansOf(() =>
    withSpan("flush", { links: linksTo([TRACEPARENT, undefined, "garbage", "", TRACEPARENT]) }, async () => {}),
  );
  expect(spans.get("flush")?.links).toMatchObject([{ traceId: TRACE_ID, spanId: SPAN_ID }]);
  expect(spans.get("flush")?.links).toHaveLength(1);
  expect(spans.get("flush")?.traceId).not.toBe(TRACE_ID);
  expect(linksTo([TRACEPARENT])).toEqual([]);
});

it("records a failure on the span and passes it on", async () => {
  const failure = new Error("log away");
  const spans = await spansOf(async () => {
    await expect(withSpan("append", {}, () => Promise.reject(failure))).rejects.toBe(failure);
  });
  expect(spans.get("append")).toMatchObject({
    status: { code: 2, message: "log away" },
    events: [{ name: "exception" }],
  });
});

it("hands on no context for a trace whose caller chose not to sample it", async () => {
  const spans = await spansOf(() =>
    withSpan("request", { parent: contextFrom(TRACEPARENT.replace(/01$/, "00")) }, async (span) => {
      expect(traceparentOf(span)).toBeUndefined();
    }),
  );
  expect(spans.size).toBe(0);
});

it.each([
  ["no endpoint", {}],
  ["OTEL_SDK_DISABLED", { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" }],
  ["OTEL_TRACES_EXPORTER=none", { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_TRACES_EXPORTER: "none" }],
])("makes no spans with %s", async (_, env) => {
  await using _telemetry = await startTelemetry({ service: "gateway", env, logger });
  expect(telemetryEnabled()).toBe(false);
  const result = await withSpan("request", { parent: contextFrom(TRACEPARENT) }, async (span) => {
    expect(span.isRecording()).toBe(false);
    expect(traceparentOf(span)).toBeUndefined();
    return 42;
  });
  expect(result).toBe(42);
});

it("stops within seconds when the collector is away", async () => {
  const begun = performance.now();
  const spans = await spansOf(() => withSpan("lost", {}, async () => {}), {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:1/v1/traces",
  });
  expect(performance.now() - begun).toBeLessThan(atMost(5_000));
  expect(spans.size).toBe(0);
});

it.each([
  undefined,
  "",
  "garbage",
  ["a", "b"],
  `ff-${TRACE_ID}-${SPAN_ID}-01`,
  `00-${"0".repeat(32)}-${SPAN_ID}-01`,
  `00-${TRACE_ID}-${"0".repeat(16)}-01`,
])("ignores the malformed traceparent %j", (traceparent) => {
  expect(traceparentOf(contextFrom(traceparent))).toBeUndefined();
});

/** Number of modules of the SDK that a process has loaded after startTelemetry. */
async function sdkModulesLoaded(env: Record<string, string>): Promise<number> {
  const script = `
    import { registerHooks } from "node:module";
    let count = 0;
    registerHooks({ load(url, context, next) { if (url.includes("opentelemetry/sdk")) count++; return next(url, context); } });
    const { startTelemetry } = await import(${JSON.stringify(new URL("./telemetry.ts", import.meta.url).href)});
    const logger = { info() {}, warn() {} };
    const telemetry = await startTelemetry({ service: "test", env: ${JSON.stringify(env)}, logger });
    await telemetry[Symbol.asyncDispose]();
    process.stdout.write(String(count));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script]);
  return Number(stdout);
}

it("loads the SDK only when there is an endpoint", async () => {
  expect(await sdkModulesLoaded({})).toBe(0);
  expect(await sdkModulesLoaded({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint })).toBeGreaterThan(10);
});
