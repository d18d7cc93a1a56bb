// Spans around records on their way to and from the log, with the messaging attributes of OpenTelemetry.
import { contextFrom, linksTo, telemetryEnabled, withSpan } from "#lib/process/telemetry.ts";

type Traced = { readonly traceparent?: string | undefined };

/** The append of records of many requests; without tracing nothing but the append. */
export function sendTraced<T>(
  system: string,
  topic: string,
  records: readonly Traced[],
  send: () => Promise<T>,
): Promise<T> {
  if (!telemetryEnabled()) return send();
  const attributes = messagingAttributes("send", { system, topic }, records.length);
  return withSpan(`send ${topic}`, { kind: "producer", attributes, ...causesOf(records) }, send);
}

export interface RecordSource {
  system: string;
  topic: string;
  partition: number;
  group: string;
}

/** What becomes of records read together; without tracing nothing but that. */
export function processTraced<T>(
  source: RecordSource,
  records: readonly Traced[],
  process: () => Promise<T>,
): Promise<T> {
  if (!telemetryEnabled()) return process();
  const attributes = {
    ...messagingAttributes("process", source, records.length),
    "messaging.destination.partition.id": String(source.partition),
    "messaging.consumer.group.name": source.group,
  };
  return withSpan(`process ${source.topic}`, { kind: "consumer", attributes, ...causesOf(records) }, process);
}

function messagingAttributes(
  operation: "send" | "process",
  { system, topic }: { system: string; topic: string },
  count: number,
) {
  return {
    "messaging.system": system,
    "messaging.operation.name": operation,
    "messaging.operation.type": operation,
    "messaging.destination.name": topic,
    // The convention has no count of one.
    ...(count > 1 ? { "messaging.batch.message_count": count } : {}),
  };
}

/** In the trace of the first traced request, with links to all of them. */
function causesOf(records: readonly Traced[]) {
  const traceparents = records.map((record) => record.traceparent);
  return { parent: contextFrom(traceparents.find((traceparent) => traceparent)), links: linksTo(traceparents) };
}
