// Tracing: off, and free, unless an OTLP endpoint is configured. Spans go out as OTLP over HTTP; the OTEL_* variables mean
// what the OpenTelemetry specification says.
import {
  type Attributes,
  type Context,
  context,
  DiagLogLevel,
  diag,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from "@opentelemetry/api";
import { shownValue } from "#lib/config/print.ts";
import type { Logger } from "./log.ts";
import { within } from "./waiting.ts";

export interface TelemetryOptions {
  /** Becomes service.name "millrace-<service>" unless OTEL_SERVICE_NAME is set. */
  service: string;
  env: Record<string, string | undefined>;
  logger: Logger;
}

/** With the collector away, the SDK's own shutdown takes 7 s and then rejects; nobody waits that long for spans. */
const SHUTDOWN_TIMEOUT_MS = 2_000;

/** Like the OpenTelemetry API's own provider, a matter of the process. */
let enabled = false;

/** Whether spans are made at all. */
export function telemetryEnabled(): boolean {
  return enabled;
}

/** Loads the SDK only when there is somewhere to send to. Disposing sends what is left, for two seconds at most. */
export async function startTelemetry({ service, env, logger }: TelemetryOptions): Promise<AsyncDisposable> {
  const url = tracesUrl(env);
  if (url === undefined) return { async [Symbol.asyncDispose]() {} };
  const [{ NodeSDK }, { OTLPTraceExporter }] = await Promise.all([
    import("@opentelemetry/sdk-node"),
    import("@opentelemetry/exporter-trace-otlp-http"),
  ]);
  const sdk = new NodeSDK({
    serviceName: env.OTEL_SERVICE_NAME || `millrace-${service}`,
    traceExporter: new OTLPTraceExporter({ url }),
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  const warn = (message: string) => logger.warn({ detail: message.slice(0, 500) }, "telemetry");
  const ignore = () => {};
  diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, { logLevel: DiagLogLevel.WARN });
  sdk.start();
  enabled = true;
  // Credentials can be in it: it is no setting of ours, and no check keeps them out.
  logger.info({ url: shownValue(url, false) }, "traces are exported");
  return {
    async [Symbol.asyncDispose]() {
      if (!enabled) return;
      enabled = false;
      await shutDown(sdk, logger);
      trace.disable();
      context.disable();
      diag.disable();
    },
  };
}

function tracesUrl(env: TelemetryOptions["env"]): string | undefined {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === "true" || env.OTEL_TRACES_EXPORTER === "none") return undefined;
  if (env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  if (!env.OTEL_EXPORTER_OTLP_ENDPOINT) return undefined;
  return `${env.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/+$/, "")}/v1/traces`;
}

async function shutDown(sdk: { shutdown(): Promise<void> }, logger: Logger): Promise<void> {
  try {
    await within(SHUTDOWN_TIMEOUT_MS, sdk.shutdown());
  } catch (error) {
    // Losing the last spans must not turn a clean stop into a failed one.
    logger.warn({ err: error }, "the last traces could not be sent");
  }
}

export interface SpanOptions {
  kind?: "internal" | "server" | "client" | "producer" | "consumer";
  attributes?: Attributes;
  links?: readonly Link[];
  /** Default: the active context. */
  parent?: Context;
}

const KINDS = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/** Runs `work` with a span that is active within it and ends with it; a rejection is recorded and passed on. */
export async function withSpan<T>(name: string, options: SpanOptions, work: (span: Span) => Promise<T>): Promise<T> {
  if (!enabled) return work(NO_SPAN);
  const { kind = "internal", attributes = {}, links = [], parent = context.active() } = options;
  const span = trace
    .getTracer("millrace")
    .startSpan(name, { kind: KINDS[kind], attributes, links: [...links] }, parent);
  try {
    return await context.with(trace.setSpan(parent, span), work, undefined, span);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    span.recordException(error instanceof Error ? error : message);
    span.setAttribute("error.type", errorType(error));
    span.setStatus({ code: SpanStatusCode.ERROR, message });
    throw error;
  } finally {
    span.end();
  }
}

/** A code where the error has one, of ClickHouse or of the system; else its class. */
function errorType(error: unknown): string {
  if (!(error instanceof Error)) return "_OTHER";
  const { code, name } = error as Error & { code?: unknown };
  return typeof code === "string" || typeof code === "number" ? String(code) : name;
}

/** Marks a span as failed without an exception: the answer said so. */
export function failSpan(span: Span, type: string): void {
  span.setAttribute("error.type", type);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** W3C trace context to hand on; undefined when the span is not recorded, so that nothing is carried for nothing. */
export function traceparentOf(from: Span | Context = context.active()): string | undefined {
  const spanContext = "spanContext" in from ? from.spanContext() : trace.getSpanContext(from);
  if (!spanContext || !isSpanContextValid(spanContext) || !(spanContext.traceFlags & TraceFlags.SAMPLED))
    return undefined;
  return `00-${spanContext.traceId}-${spanContext.spanId}-01`;
}

/** Context in which the caller's span is the parent; an empty one when there is none or it is malformed. */
export function contextFrom(traceparent: string | readonly string[] | undefined): Context {
  const spanContext = typeof traceparent === "string" ? parseTraceparent(traceparent) : undefined;
  return spanContext ? trace.setSpanContext(ROOT_CONTEXT, spanContext) : ROOT_CONTEXT;
}

/** The SDK keeps no more per span. */
const LINKS_MAX = 128;

/**
 * Links to the spans that caused this work without being its parent, as when one batch serves many requests. Each span
 * once; without tracing none, and nothing is looked at.
 */
export function linksTo(traceparents: Iterable<string | undefined>): Link[] {
  if (!enabled) return [];
  const links = new Map<string, Link>();
  for (const traceparent of traceparents) {
    if (links.size === LINKS_MAX) break;
    if (!traceparent || links.has(traceparent)) continue;
    const spanContext = parseTraceparent(traceparent);
    if (spanContext) links.set(traceparent, { context: spanContext });
  }
  return [...links.values()];
}

function parseTraceparent(text: string): SpanContext | undefined {
  const match = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-|$)/.exec(text.trim());
  const [, traceId, spanId, flags] = match ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  const traceFlags = Number.parseInt(flags, 16) & TraceFlags.SAMPLED;
  const spanContext = { traceId, spanId, traceFlags, isRemote: true };
  return isSpanContextValid(spanContext) ? spanContext : undefined;
}
