import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { post, readRetryAfter } from "./transport.ts";

it.each([
  [null, undefined],
  ["", undefined],
  ["soon", undefined],
  ["0", 0],
  [" 7 ", 7000],
  [new Date(0).toUTCString(), 0],
])("reads Retry-After %j as %j ms", (header, ms) => expect(readRetryAfter(header)).toBe(ms));

it("reads a date as the time until then", () => {
  const ms = readRetryAfter(new Date(Date.now() + 60_000).toUTCString()) ?? 0;
  expect(ms).toBeGreaterThan(55_000);
  expect(ms).toBeLessThanOrEqual(60_000);
});

it.each([
  ['{"status":"ok","ingested":1,"dropped":2}', 2],
  ["{}", 0],
  ["1", 0],
  ["", 0],
  ["<html>Please sign in</html>", "rejects"],
])("takes a success that says %j for %j", async (body, outcome) => {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.end(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/batch/`;
    const answered = post(endpoint, "{}", { timeoutMs: 5000 }).catch(() => "rejects");
    expect(await answered).toBe(outcome);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
