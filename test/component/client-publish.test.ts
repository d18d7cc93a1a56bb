// publish() of @millrace/client and the three transports, against a real gateway.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it, vi } from "vitest";
import { RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { createClient, PublishError, type TransportName } from "../../sdk/node/src/index.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { startScriptedGateway } from "../kit/scripted-gateway.ts";

const BACKOFF = { base: 5, max: 20 };
const TRANSPORTS: TransportName[] = ["connect", "grpc", "grpc-web"];

it.each(TRANSPORTS)(
  "over %s: good events are stored, bad ones are named, with the fields that were given",
  async (transport) => {
    await using gateway = await startTestGateway({ secretApiKeys: ["sk_1"] });
    await using client = createClient({ url: gateway.url, apiKey: "sk_1", transport });
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const time = "2026-01-02T03:04:05.678Z";
    const verdicts = await client.publish([
      {
        event: "signed_up",
        distinctId: "ada",
        source: "landing",
        value: 1.5,
        time,
        properties: { plan: "pro", ü: ["€"] },
      },
      { event: "x".repeat(201) },
      { event: "cyclic", properties: cycle },
      { event: "bad id", id: "7" },
      { event: "plain" },
    ]);
    expect(verdicts.accepted).toBe(2);
    expect(verdicts.rejected).toMatchObject([
      { index: 1, code: "too_large", field: "event", retryable: false },
      { index: 2, code: "invalid", field: "properties", retryable: false },
      { index: 3, code: "invalid", field: "id", retryable: false },
    ]);
    const [signedUp, plain] = await gateway.events();
    expect(signedUp).toMatchObject({ event: "signed_up", distinctId: "ada", source: "landing", value: 1.5 });
    expect(Number(signedUp?.timeUs)).toBe(Date.parse(time) * 1000);
    expect(JSON.parse(Buffer.from(signedUp?.propertiesJson as Uint8Array).toString())).toEqual({
      plan: "pro",
      ü: ["€"],
    });
    expect(plain?.event).toBe("plain");
  },
);

it.each(TRANSPORTS)("over %s: a wrong key is an error that says so and that no retry will help", async (transport) => {
  await using gateway = await startTestGateway({ secretApiKeys: ["sk_1"] });
  await using client = createClient({ url: gateway.url, apiKey: "sk_2", transport });
  const error = await client.publish({ event: "e" }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(PublishError);
  expect(error).toMatchObject({ code: "unauthenticated", retryable: false, verdicts: { accepted: 0 } });
});

it.each(TRANSPORTS)(
  "over %s: a request beyond the gateway's limits is split and all of it stored",
  async (transport) => {
    await using gateway = await startTestGateway({ maxEventsPerBatch: 100, maxBatchBytes: 20_000 });
    await using client = createClient({ url: gateway.url, transport, backoffMs: BACKOFF });
    const events = Array.from({ length: 350 }, (_, n) => ({ event: `e${n}`, properties: { text: "x".repeat(200) } }));
    expect(await client.publish(events)).toMatchObject({ accepted: 350, rejected: [] });
    const stored = (await gateway.events()).map(({ event }) => event);
    expect(stored.sort()).toEqual(events.map(({ event }) => event).sort());
  },
);

it("a gateway that limits the rate is asked again when it says, and has each event once", async () => {
  await using gateway = await startTestGateway({ rateLimitEvents: 100, rateLimitBurst: 100 });
  await using client = createClient({ url: gateway.url, intervalMs: 1, batchEvents: 90, backoffMs: BACKOFF });
  for (let n = 0; n < 180; n++) client.capture({ event: `e${n}` });
  const begun = performance.now();
  expect(await client.flush()).toBe(true);
  expect(performance.now() - begun).toBeGreaterThanOrEqual(900);
  expect((await gateway.events()).map(({ event }) => event)).toEqual(Array.from({ length: 180 }, (_, n) => `e${n}`));
  expect(client.counters()).toMatchObject({ sent: 180, retried: 1 });
});

it("a log that is away for a moment is retried under the same ids", async () => {
  await using gateway = await startTestGateway();
  await using client = createClient({ url: gateway.url, backoffMs: BACKOFF });
  let failures = 1;
  gateway.appendBy(async (_records, real) => {
    failures -= 1;
    // Stored all the same: the caller cannot know.
    const positions = await real();
    if (failures >= 0) throw new LogUnavailableError("away");
    return positions;
  });
  const { accepted, ids } = await client.publish([{ event: "a" }, { event: "b" }]);
  expect(accepted).toBe(2);
  const stored = await gateway.events();
  expect(stored).toHaveLength(4);
  expect(new Set(stored.map(({ event }) => event)).size).toBe(2);
  expect(new Set(stored.map(({ id }) => Buffer.from(id).toString("hex")))).toEqual(
    new Set(ids.map((id) => id.replaceAll("-", ""))),
  );
});

it("when time is over it rejects with what is known and the ids to go on with", async () => {
  await using gateway = await startScriptedGateway((_request, count) => (count === 1 ? "take" : { status: 503 }));
  await using client = createClient({ url: gateway.url, batchEvents: 2, backoffMs: BACKOFF });
  const events = [{ event: "a" }, { event: "b" }, { event: "c" }];
  const error = await client.publish(events, { timeoutMs: 500 }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(PublishError);
  const { message, code, retryable, verdicts } = error as PublishError;
  expect(message).toMatch(/did not take the events within 500 ms: HTTP 503$/);
  expect({ code, retryable, accepted: verdicts.accepted }).toEqual({
    code: "unavailable",
    retryable: true,
    accepted: 2,
  });
  expect(verdicts.ids).toHaveLength(3);
  expect(gateway.requests.at(-1)?.request.events[0]?.id).toBe(verdicts.ids[2]);
});

it("when time is over and the gateway has answered for each event, it resolves with those as retryable", async () => {
  const later = { index: 0, code: RejectionCode.UNAVAILABLE, message: "not in time", retryable: true };
  await using gateway = await startScriptedGateway(() => ({ rejected: [later] }));
  await using client = createClient({ url: gateway.url, backoffMs: BACKOFF });
  const verdicts = await client.publish([{ event: "a" }, { event: "b" }], { timeoutMs: 500 });
  expect(verdicts).toMatchObject({
    accepted: 1,
    rejected: [{ index: 0, code: "unavailable", message: "not in time", retryable: true }],
  });
});

it("gives up with the caller's signal", async () => {
  await using gateway = await startScriptedGateway(() => "hang");
  await using client = createClient({ url: gateway.url });
  const stop = new AbortController();
  const publishing = client.publish({ event: "a" }, { signal: stop.signal });
  stop.abort(new Error("the user left"));
  await expect(publishing).rejects.toThrow("the user left");
});

it("compresses when it is told to, and a gateway reads it", async () => {
  await using gateway = await startTestGateway();
  await using observer = await startScriptedGateway(() => "take");
  const events = Array.from({ length: 50 }, (_, n) => ({ event: `e${n}`, properties: { text: "x".repeat(100) } }));
  for (const { url } of [gateway, observer]) {
    await using client = createClient({ url, gzip: true });
    expect(await client.publish(events)).toMatchObject({ accepted: 50 });
  }
  expect(await gateway.events()).toHaveLength(50);
  expect(observer.requests[0]?.headers["content-encoding"]).toBe("gzip");
  expect(observer.requests[0]?.bytes).toBeLessThan(3_000);
});

it("an answer that does not account for every event is no gateway's", async () => {
  const body = Buffer.from([0x08, 0x07]);
  const odd = { status: 200, headers: { "content-type": "application/proto" }, body: body.toString() };
  await using gateway = await startScriptedGateway(() => odd);
  await using client = createClient({ url: gateway.url });
  await expect(client.publish({ event: "a" })).rejects.toThrow("is it a Millrace gateway?");
});

it.each(TRANSPORTS.filter((transport) => transport !== "grpc"))(
  "over %s: a page in the place of the gateway, as logins and hotels have them, is no verdict on events",
  async (transport) => {
    const page = `<html><body>${"Please sign in. ".repeat(20)}`;
    const server = createServer((request, response) => {
      request.resume().on("end", () => response.writeHead(200, { "content-type": "text/html" }).end(page));
    }).listen(0, "127.0.0.1");
    try {
      await vi.waitFor(() => expect(server.listening).toBe(true));
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      await using client = createClient({ url, transport, intervalMs: 1, backoffMs: BACKOFF, closeTimeoutMs: 0 });
      for (const size of [1, 100_000]) client.capture({ event: "kept", properties: { pad: "x".repeat(size) } });
      await vi.waitFor(() => expect(client.counters().retried).toBeGreaterThan(3));
      expect(client.counters()).toMatchObject({ queued: 2, dropped: { rejected: 0 } });
    } finally {
      server.closeAllConnections();
      server.close();
    }
  },
);
