import { once } from "node:events";
import { connect, createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Counter, Registry } from "prom-client";
import { afterEach, expect, it } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { createHealth, type HealthCheck, type HealthServer, serveHealth } from "./health.ts";

const logger = createLogger({ level: "silent", service: "test" });
const ok: HealthCheck = { name: "log", check: async () => {} };
let server: HealthServer | undefined;

afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

async function serve(checks: HealthCheck[], checkTimeoutMs?: number) {
  const registry = new Registry();
  const health = createHealth({ checks, registry, ...(checkTimeoutMs ? { checkTimeoutMs } : {}) });
  server = await serveHealth({ host: "127.0.0.1", port: 0, setting: "CONSUMER_PORT", health, logger });
  const base = `http://127.0.0.1:${server.port}`;
  const get = async (path: string, method = "GET") => {
    const response = await fetch(base + path, { method });
    return { status: response.status, headers: response.headers, body: await response.text() };
  };
  return { registry, health, get };
}

it("is alive whatever its dependencies say", async () => {
  const { get } = await serve([{ name: "log", check: () => Promise.reject(new Error("away")) }]);
  expect(await get("/healthz")).toMatchObject({ status: 200, body: '{"status":"ok"}' });
});

it("is ready when all checks pass", async () => {
  const { get } = await serve([ok, { name: "clickhouse", check: async () => {} }]);
  const answer = await get("/readyz?verbose");
  expect(answer).toMatchObject({ status: 200, body: '{"status":"ready","checks":{"log":"ok","clickhouse":"ok"}}' });
  expect(answer.headers.get("content-type")).toBe("application/json");
});

it("says which dependency is away and why, bounded in time for one that hangs", async () => {
  const { get } = await serve(
    [
      ok,
      { name: "clickhouse", check: () => Promise.reject(new Error("connection refused")) },
      { name: "schema", check: () => new Promise(() => {}) },
    ],
    50,
  );
  const { status, body } = await get("/readyz");
  expect(status).toBe(503);
  expect(JSON.parse(body)).toEqual({
    status: "not ready",
    checks: { log: "ok", clickhouse: "connection refused", schema: "no answer within 50 ms" },
  });
});

it("aborts the signal of a check that takes too long", async () => {
  const aborted = Promise.withResolvers<unknown>();
  const check = (signal: AbortSignal) =>
    new Promise<void>(() => signal.addEventListener("abort", () => aborted.resolve(signal.reason)));
  const { get } = await serve([{ name: "slow", check }], 20);
  await get("/readyz");
  expect(await aborted.promise).toMatchObject({ message: "no answer within 20 ms" });
});

it("runs its checks once for many requests that come together", async () => {
  let runs = 0;
  const check = async () => {
    runs++;
  };
  const { get } = await serve([{ name: "log", check }]);
  await Promise.all(Array.from({ length: 20 }, () => get("/readyz")));
  expect(runs).toBe(1);
});

it("checks again once the answer is old", async () => {
  let failing = true;
  const check = async () => {
    if (failing) throw new Error("away");
  };
  const { get } = await serve([{ name: "log", check }]);
  expect((await get("/readyz")).status).toBe(503);
  failing = false;
  await expect.poll(async () => (await get("/readyz")).status, { timeout: 5_000 }).toBe(200);
});

it("is not ready but alive while draining", async () => {
  const { get, health } = await serve([ok]);
  health.setDraining();
  expect(await get("/readyz")).toMatchObject({ status: 503, body: '{"status":"draining","checks":{}}' });
  expect((await get("/healthz")).status).toBe(200);
  expect(await health.isReady()).toBe(false);
});

it("serves the registry's metrics as Prometheus text", async () => {
  const { get, registry } = await serve([]);
  new Counter({ name: "millrace_test_total", help: "test", registers: [registry] }).inc(3);
  const { status, headers, body } = await get("/metrics");
  expect(status).toBe(200);
  expect(headers.get("content-type")).toContain("text/plain");
  expect(body).toContain("millrace_test_total 3");
});

it("answers HEAD without a body, other methods with 405 and other paths with 404", async () => {
  const { get } = await serve([ok]);
  const head = await get("/readyz", "HEAD");
  expect([head.status, head.body, head.headers.get("content-length")]).toEqual([200, "", "40"]);
  const post = await get("/healthz", "POST");
  expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  expect((await get("/other")).status).toBe(404);
});

it("leaves other requests of a shared HTTP/2 listener alone and answers its own", async () => {
  const health = createHealth({ checks: [ok], registry: new Registry() });
  const h2 = createServer((request, response) => {
    if (!health.handle(request, response)) response.end("other");
  });
  h2.listen(0, "127.0.0.1");
  await once(h2, "listening");
  const session = connect(`http://127.0.0.1:${(h2.address() as AddressInfo).port}`);
  try {
    const get = (path: string) => text(session.request({ ":path": path }));
    expect(await get("/readyz")).toBe('{"status":"ready","checks":{"log":"ok"}}');
    expect(await get("/x")).toBe("other");
  } finally {
    session.close();
    h2.close();
    await once(h2, "close");
  }
});

it("says what to do when its port is taken", async () => {
  await serve([]);
  const port = server?.port ?? 0;
  const health = createHealth({ checks: [], registry: new Registry() });
  await expect(serveHealth({ host: "127.0.0.1", port, setting: "CONSUMER_PORT", health, logger })).rejects.toThrow(
    `Cannot listen on 127.0.0.1:${port}: another process, or another setting of this one, uses that port. Free it, or set CONSUMER_PORT to another port (0 picks a free one).`,
  );
});

it("can be disposed twice", async () => {
  await serve([]);
  await server?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});
