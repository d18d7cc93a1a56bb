// The stats service while ClickHouse is slow or away, at a real socket that takes requests and does not answer them.
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { patience } from "../kit/patience.ts";
import { startTestStats, type TestStats } from "../kit/stats.ts";
import { until } from "../kit/until.ts";

/** Queries that wait for their turn; what comes on top is refused at once. */
const WAITING_MAX = 64;

const stack: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of stack.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

/** A listener that keeps every query open, but for those of the evaluation of alerts. */
async function startSilent() {
  const open = new Set<http.ServerResponse>();
  let asked = 0;
  const server = http.createServer((request, response) => {
    let sql = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      sql += text;
    });
    request.on("end", () => {
      if (!/points_(all|rollup)/.test(sql)) return response.end();
      asked++;
      open.add(response);
      response.once("close", () => open.delete(response));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.closeAllConnections();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  stack.push({ [Symbol.asyncDispose]: close });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "d" });
  stack.push({ [Symbol.asyncDispose]: () => warehouse[Symbol.asyncDispose]() });
  return { warehouse, open, asked: () => asked, close };
}

async function statsOver(warehouse: Parameters<typeof startTestStats>[0], statsMaxQueries: number): Promise<TestStats> {
  const stats = await startTestStats(warehouse, { statsMaxQueries });
  stack.push(stats);
  return stats;
}

it("asks no more at once than STATS_MAX_QUERIES, and refuses with 503 what cannot wait", async () => {
  const clickhouse = await startSilent();
  const stats = await statsOver(clickhouse.warehouse, 2);
  const leaving = new AbortController();
  const waiting = Array.from({ length: 2 + WAITING_MAX }, () =>
    fetch(`${stats.url}/latest/cpu`, { signal: leaving.signal }).catch((error: Error) => error.name),
  );
  await until(async () => clickhouse.open.size === 2, "two queries are open");
  let refused = await fetch(`${stats.url}/latest/cpu`, { signal: AbortSignal.timeout(patience(20_000)) });
  // Those sent before it may still be on their way in.
  while (refused.status !== 503) refused = await fetch(`${stats.url}/latest/cpu`);
  expect(refused.headers.get("retry-after")).toBe("2");
  expect(await refused.json()).toEqual({ error: "too many queries at once; try again" });
  expect(clickhouse.asked()).toBe(2);
  expect((await stats.get("/ping")).text).toBe("pong");

  leaving.abort();
  await Promise.all(waiting);
  await until(async () => clickhouse.open.size === 0, "the queries of callers that have gone are given up");
});

it("says 503 while ClickHouse is away, 500 in the code's form, and is not ready", async () => {
  const clickhouse = await startSilent();
  const stats = await statsOver(clickhouse.warehouse, 2);
  await clickhouse.close();
  for (const path of ["/latest/ram", "/hourly/ram", "/daily/ram", "/keys", "/tags"]) {
    const answer = await stats.get(path);
    expect(answer, path).toMatchObject({ status: 503, headers: { "retry-after": "2" } });
    expect(answer.text).toBe('{"error":"ClickHouse cannot be asked now"}\n');
    expect((await stats.get(`${path}?compat=code`)).status).toBe(500);
  }
  const ready = await stats.get("/readyz");
  expect(ready.status).toBe(503);
  expect(JSON.parse(ready.text)).toMatchObject({
    checks: { log: "ok", clickhouse: expect.stringContaining("failed") },
  });
  expect((await stats.get("/metrics")).text).toMatch(
    /millrace_stats_query_seconds_count\{query="latest",outcome="failed"\} 2/,
  );
});
