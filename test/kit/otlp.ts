// A receiver of traces as a collector is one: OTLP over HTTP, spans as JSON.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/** As OTLP numbers them. */
export const SPAN_KINDS = { server: 2, client: 3, producer: 4, consumer: 5 };
export const FAILED = 2;

export interface ReceivedSpan {
  name: string;
  kind: number;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  links?: { traceId: string; spanId: string }[];
  status: { code?: number };
  /** Numbers as numbers. */
  attributes: Record<string, string | number | undefined>;
}

interface WireSpan extends Omit<ReceivedSpan, "attributes"> {
  attributes: { key: string; value: { stringValue?: string; intValue?: number | string } }[];
}

interface TraceExport {
  resourceSpans: { scopeSpans: { spans: WireSpan[] }[] }[];
}

export interface TraceReceiver extends AsyncDisposable {
  readonly url: string;
  readonly spans: readonly ReceivedSpan[];
  /** Waits for the first span of that name, 30 seconds at most. */
  spanNamed(name: string): Promise<ReceivedSpan>;
}

export async function startTraceReceiver(): Promise<TraceReceiver> {
  const spans: ReceivedSpan[] = [];
  const server = createServer(async (request, response) => {
    const { resourceSpans } = (await json(request)) as TraceExport;
    for (const { scopeSpans } of resourceSpans)
      for (const scope of scopeSpans) spans.push(...scope.spans.map((span) => ({ ...span, attributes: read(span) })));
    response.setHeader("content-type", "application/json").end("{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    async spanNamed(name) {
      for (let attempt = 0; attempt < 300; attempt++) {
        const span = spans.find((one) => one.name === name);
        if (span) return span;
        await sleep(100);
      }
      throw new Error(`no span "${name}" among ${spans.map((span) => span.name).join(", ")}`);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function read({ attributes }: WireSpan): ReceivedSpan["attributes"] {
  const values = attributes.map(({ key, value: { stringValue, intValue } }) => {
    return [key, stringValue ?? (intValue === undefined ? undefined : Number(intValue))] as const;
  });
  return Object.fromEntries(values);
}
