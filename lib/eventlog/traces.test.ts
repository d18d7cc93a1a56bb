import { expect, it } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { SPAN_KINDS, startTraceReceiver } from "../../test/kit/otlp.ts";
import { processTraced, sendTraced } from "./traces.ts";

const parentOf = (digit: string) => ({ traceparent: `00-${digit.repeat(32)}-${digit.repeat(16)}-01` });
const SOURCE = { system: "kafka", topic: "t", partition: 3, group: "g" };

it("a batch is in the trace of its first traced record and has links to all of them", async () => {
  await using receiver = await startTraceReceiver();
  const telemetry = await startTelemetry({
    service: "test",
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url },
    logger: createLogger({ level: "silent", service: "test" }),
  });
  const records = [{}, parentOf("a"), parentOf("b"), parentOf("a")];
  expect(await sendTraced("kafka", "t", records, async () => "sent")).toBe("sent");
  await expect(
    processTraced(SOURCE, records, async () => {
      throw Object.assign(new Error("refused"), { code: 252 });
    }),
  ).rejects.toThrow("refused");
  await telemetry[Symbol.asyncDispose]();

  const links = ["a", "b"].map((digit) => expect.objectContaining({ spanId: digit.repeat(16) }));
  const cause = { traceId: "a".repeat(32), parentSpanId: "a".repeat(16), links };
  expect(receiver.spans).toEqual([
    expect.objectContaining({ ...cause, name: "send t", kind: SPAN_KINDS.producer }),
    expect.objectContaining({ ...cause, name: "process t", kind: SPAN_KINDS.consumer }),
  ]);
  const [send, process] = receiver.spans;
  expect(send?.attributes["messaging.batch.message_count"]).toBe(4);
  expect(process?.attributes).toMatchObject({ "messaging.destination.partition.id": "3", "error.type": "252" });
});

it("looks at no record while tracing is off", async () => {
  const untouchable = new Proxy([], {
    get(_, name) {
      throw new Error(`${String(name)} was read`);
    },
  });
  expect(await sendTraced("kafka", "t", untouchable, async () => 1)).toBe(1);
  expect(await processTraced(SOURCE, untouchable, async () => 2)).toBe(2);
});
