import http from "node:http";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { createClient } from "@clickhouse/client";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../test/kit/clickhouse.ts";
import { type ClickHouseFault, type ClickHouseProxy, startClickHouseProxy } from "./clickhouse-proxy.ts";

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
/** Beside the proxy: what is really stored. */
let direct: Warehouse;
/** Through the proxy, as the services speak to ClickHouse. */
let proxied: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  proxy = await startClickHouseProxy({ target: () => clickhouse.url });
  direct = clickhouse.warehouse("default");
  proxied = createClickHouseWarehouse({ ...clickhouse.connection, url: proxy.url, database: "default" });
  await proxied.command("CREATE TABLE numbers (n UInt64, pad String) ENGINE = MergeTree ORDER BY n");
});
afterEach(() => proxy.inject(undefined));
afterAll(async () => {
  await proxied?.[Symbol.asyncDispose]();
  await proxy?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

let lastBatch = 0;

/** 1,000 rows of one number that no other call has. */
function insert(through: Warehouse, signal?: AbortSignal): { n: number; done: Promise<void> } {
  const n = ++lastBatch;
  const rows = Buffer.from(`[${n},"${"x".repeat(100)}"]\n`.repeat(1_000));
  return { n, done: through.insert({ table: "numbers", columns: ["n", "pad"], rows, token: String(n), signal }) };
}

async function stored(n: number): Promise<number> {
  const [row] = await direct.query<{ rows: string }>("SELECT count() AS rows FROM numbers WHERE n = {n:UInt64}", {
    params: { n },
  });
  return Number(row?.rows);
}

/** How many requests the fault had an effect on during `work`. */
async function hitsDuring(fault: ClickHouseFault, work: () => Promise<void>): Promise<number> {
  const before = proxy.hits(fault);
  proxy.inject(fault);
  await work();
  return proxy.hits(fault) - before;
}

/** As ClickHouse's own client says it: the exception's code, or that of the broken socket. */
const causeOf = (error: { cause?: unknown }) => error.cause as { code?: string; type?: string; message: string };

it("without a fault everything passes: inserts, queries, parameters, exceptions, a large answer", async () => {
  const { n, done } = insert(proxied);
  await done;
  expect(await stored(n)).toBe(1_000);
  const [row] = await proxied.query<{ s: string }>("SELECT {s:String} AS s", { params: { s: "ä'\\" } });
  expect(row?.s).toBe("ä'\\");
  await expect(proxied.query("SELECT nothing")).rejects.toMatchObject({ code: 47 });
  const rows = await proxied.query<{ s: string }>("SELECT repeat('x', 1000) AS s FROM numbers(5000)");
  expect(rows).toHaveLength(5_000);
});

it("gzip passes untouched in both directions", async () => {
  const client = createClient({ url: proxy.url, compression: { request: true, response: true } });
  const n = ++lastBatch;
  await client.insert({ table: "numbers", values: [{ n, pad: "é" }], format: "JSONEachRow" });
  const answer = await client.query({ query: `SELECT pad FROM numbers WHERE n = ${n}`, format: "JSONEachRow" });
  expect(await answer.json()).toEqual([{ pad: "é" }]);
  await client.close();
});

it("one connection of a caller carries many requests, also after a fault that answers", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  const ask = async (body: string) => {
    const request = http.request(proxy.url, { method: "POST", agent }).end(body);
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      request.once("response", resolve).once("error", reject);
    });
    ports.add(response.socket.localPort);
    return `${response.statusCode} ${await text(response)}`;
  };
  expect(await ask("SELECT 1")).toBe("200 1\n");
  proxy.inject("status_503");
  expect(await ask(`SELECT ${" ".repeat(300_000)} 2`)).toBe("503 Service Unavailable\n");
  proxy.inject(undefined);
  expect(await ask("SELECT 3")).toBe("200 3\n");
  expect(await ask("")).toMatch(/^\d{3} /);
  expect(ports.size).toBe(1);
  agent.destroy();
});

it.each([
  ["status_500", 500],
  ["status_503", 503],
] as const)("%s hits everything, and nothing reaches ClickHouse", async (fault, status) => {
  const hits = await hitsDuring(fault, async () => {
    expect((await fetch(`${proxy.url}/ping`)).status).toBe(status);
    await expect(proxied.query("SELECT 1")).rejects.toMatchObject({ kind: "transient", code: undefined });
    const { n, done } = insert(proxied);
    await expect(done).rejects.toMatchObject({ kind: "transient", code: undefined });
    expect(await stored(n)).toBe(0);
  });
  expect(hits).toBe(3);
});

it("hang answers nothing to anything, and what still waits when it is lifted goes on", async () => {
  const hits = await hitsDuring("hang", async () => {
    const { n, done } = insert(proxied);
    const select = proxied.query<{ one: number }>("SELECT 1 AS one");
    await expect(proxied.ping(AbortSignal.timeout(300))).rejects.toMatchObject({ name: "TimeoutError" });
    expect(await stored(n)).toBe(0);
    proxy.inject(undefined);
    await done;
    expect(await stored(n)).toBe(1_000);
    expect(await select).toEqual([{ one: 1 }]);
  });
  expect(hits).toBe(3);
});

it("close_after_insert: the rows are stored although the caller saw a broken socket; queries pass", async () => {
  const hits = await hitsDuring("close_after_insert", async () => {
    const { n, done } = insert(proxied);
    const error = await done.then(
      () => expect.fail("the insert was answered"),
      (reason) => reason,
    );
    expect(error).toMatchObject({ kind: "transient", code: undefined });
    expect(causeOf(error).code).toBe("ECONNRESET");
    expect(await stored(n)).toBe(1_000);
    expect(await proxied.query("SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
  expect(hits).toBe(1);
});

it("close_after_insert does not count an insert that ClickHouse refused", async () => {
  const hits = await hitsDuring("close_after_insert", async () => {
    const rows = Buffer.from('["no number",""]\n');
    const done = proxied.insert({ table: "numbers", columns: ["n", "pad"], rows, token: "refused" });
    await expect(done).rejects.toMatchObject({ kind: "transient" });
  });
  expect(hits).toBe(0);
});

it("close_mid_insert: half of the body reaches ClickHouse, no row is stored, and the caller's socket breaks", async () => {
  let received = 0;
  let brokenOff = 0;
  // Between proxy and ClickHouse, to see what passes.
  const between = http.createServer((request, response) => {
    const onward = http.request(new URL(request.url ?? "", clickhouse.url), { method: request.method ?? "POST" });
    onward.on("response", (answer) => answer.pipe(response)).on("error", () => undefined);
    request.on("data", (chunk: Buffer) => {
      received += chunk.length;
      onward.write(chunk);
    });
    request.on("end", () => onward.end());
    request.on("error", () => {
      brokenOff++;
      onward.destroy();
    });
  });
  await new Promise<void>((resolve) => between.listen(0, "127.0.0.1", resolve));
  const { port } = between.address() as { port: number };
  const cutting = await startClickHouseProxy({ target: () => `http://127.0.0.1:${port}` });
  const caller = createClickHouseWarehouse({ ...clickhouse.connection, url: cutting.url, database: "default" });
  try {
    cutting.inject("close_mid_insert");
    const { n, done } = insert(caller);
    const error = await done.then(
      () => expect.fail("the insert was answered"),
      (reason) => reason,
    );
    expect(causeOf(error).code).toBe("ECONNRESET");
    await vi.waitFor(() => expect(brokenOff).toBe(1));
    const bodyBytes = 1_000 * (`[${n},""]\n`.length + 100);
    expect(received).toBe(bodyBytes / 2);
    expect(cutting.hits("close_mid_insert")).toBe(1);
    expect(await stored(n)).toBe(0);
    cutting.inject(undefined);
    await insert(caller).done;
  } finally {
    await caller[Symbol.asyncDispose]();
    await cutting[Symbol.asyncDispose]();
    between.close();
    between.closeAllConnections();
  }
});

it("close_mid_insert without anything in between leaves no row either", async () => {
  const hits = await hitsDuring("close_mid_insert", async () => {
    const { n, done } = insert(proxied);
    await expect(done).rejects.toMatchObject({ kind: "transient" });
    // Behind it in the queue of writes: whatever became of the half has become of it by now.
    await insert(direct).done;
    expect(await stored(n)).toBe(0);
  });
  expect(hits).toBe(1);
});

it("too_many_parts refuses inserts as ClickHouse words it, which is transient; queries pass", async () => {
  const hits = await hitsDuring("too_many_parts", async () => {
    const { n, done } = insert(proxied);
    const error = await done.then(
      () => expect.fail("the insert was answered"),
      (reason) => reason,
    );
    expect(error).toMatchObject({ kind: "transient", code: 252 });
    expect(causeOf(error)).toMatchObject({ code: "252", type: "TOO_MANY_PARTS" });
    expect(causeOf(error).message).toMatch(/^Too many parts \(.*\) in table 'numbers'\. Merges are processing/);
    expect(await stored(n)).toBe(0);
    expect(await proxied.query("SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
  expect(hits).toBe(1);
});

it("an insert whose statement begins in the body counts as an insert, and a select about inserts does not", async () => {
  const hits = await hitsDuring("too_many_parts", async () => {
    const post = (body: string) => fetch(proxy.url, { method: "POST", body });
    expect((await post(`\n insert INTO numbers (n) VALUES (${++lastBatch})`)).status).toBe(500);
    expect((await post("SELECT 'INSERT INTO numbers'")).status).toBe(200);
    proxy.inject(undefined);
    expect((await post(`INSERT INTO numbers (n) VALUES (${lastBatch})`)).status).toBe(200);
    expect(await stored(lastBatch)).toBe(1);
  });
  expect(hits).toBe(1);
});

it("a fault hits the requests that it is told to, and no others", async () => {
  let asked = 0;
  const hits = await hitsDuring("status_503", async () => {
    proxy.inject("status_503", () => asked++ % 3 === 0);
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await fetch(`${proxy.url}/ping`)).status);
    expect(statuses).toEqual([503, 200, 200, 503, 200, 200]);
  });
  expect(hits).toBe(2);
});

it("a ClickHouse that is away is a broken connection", async () => {
  const lonely = await startClickHouseProxy({ target: () => "http://127.0.0.1:1" });
  await expect(fetch(`${lonely.url}/ping`)).rejects.toThrow("fetch failed");
  await lonely[Symbol.asyncDispose]();
});

it("compressed SQL is forwarded as it is", async () => {
  const answer = await fetch(proxy.url, {
    method: "POST",
    headers: { "content-encoding": "gzip" },
    body: gzipSync("SELECT 5"),
  });
  expect(await answer.text()).toBe("5\n");
});
