import { expect, it } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { FAILED, type ReceivedSpan, startTraceReceiver } from "../../test/kit/otlp.ts";
import { inRequestSpan, type RequestSpan } from "./request-span.ts";

type Request = Parameters<typeof inRequestSpan>[0];

const REQUEST = { method: "POST", httpVersion: "2.0", headers: {}, socket: {} } as Request;

async function spanOf(target: RequestSpan, code: string): Promise<ReceivedSpan | undefined> {
  await using receiver = await startTraceReceiver();
  const telemetry = await startTelemetry({
    service: "gateway",
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url },
    logger: createLogger({ level: "silent", service: "test" }),
  });
  expect(await inRequestSpan(REQUEST, target, async () => code)).toBe(code);
  await telemetry[Symbol.asyncDispose]();
  return receiver.spans[0];
}

it("has HTTP attributes for a plain route", async () => {
  const span = await spanOf({ path: "/batch/" }, "200");
  expect(span?.attributes["url.scheme"]).toBe("http");
  expect(span).toMatchObject({
    name: "POST /batch/",
    attributes: { "http.route": "/batch/", "network.protocol.version": "2", "http.response.status_code": 200 },
  });
});

it.each([
  ["400", { "http.response.status_code": 400 }, undefined],
  ["503", { "http.response.status_code": 503, "error.type": "503" }, FAILED],
  ["gone", { "error.type": "gone" }, undefined],
])("a request that ends with %s is our failure only when it is", async (code, attributes, status) => {
  const span = await spanOf({ path: "/events" }, code);
  expect(span?.attributes).toMatchObject(attributes);
  expect(span?.status.code).toBe(status === undefined ? 0 : status);
});

it.each([
  ["grpc_0", "OK", undefined],
  ["grpc_3", "INVALID_ARGUMENT", undefined],
  ["grpc_14", "UNAVAILABLE", "UNAVAILABLE"],
])("names the status of a gRPC call that ends with %s", async (code, name, fault) => {
  const span = await spanOf({ path: "/a.B/C", rpc: "grpc" }, code);
  expect(span?.name).toBe("a.B/C");
  expect(span?.attributes).toEqual({
    "rpc.system.name": "grpc",
    "rpc.method": "a.B/C",
    "rpc.response.status_code": name,
    ...(fault ? { "error.type": fault } : {}),
  });
  expect(span?.status.code).toBe(fault ? FAILED : 0);
});

it("looks at nothing of the request while tracing is off", async () => {
  const untouchable = new Proxy(REQUEST, {
    get(_, name) {
      throw new Error(`${String(name)} was read`);
    },
  });
  const seen = await inRequestSpan(untouchable, { path: "/events" }, async (traceparent) => String(traceparent));
  expect(seen).toBe("undefined");
});
