// Paths, methods and the gateway's own bad days, as callers of the product-analytics dialect see them (sections 1.1 and 1.2).
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVENT, JSON_TYPE, jsonOf, KEY, ORIGIN } from "../kit/batch-calls.ts";
import { itInProcess, startContractGateway } from "../kit/contract-gateway.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { type Answer, type Call, callH1 } from "../kit/http-calls.ts";

const MAX_BYTES = 4096;
const OTHER_ORIGIN = { origin: "https://other.example" };
const GOOD = JSON.stringify({ api_key: KEY, batch: [EVENT] });
const TOO_LARGE = "x".repeat(MAX_BYTES + 1);

let gateway: Awaited<ReturnType<typeof startContractGateway>>;
beforeAll(async () => {
  gateway = await startContractGateway({ publicApiKeys: [KEY], allowedOrigins: [ORIGIN], maxBatchBytes: MAX_BYTES });
});
afterAll(() => gateway[Symbol.asyncDispose]());

function post(call: Call, path = "/batch/"): Promise<Answer> {
  return callH1(gateway.port, path, { ...call, headers: call.headers ?? JSON_TYPE });
}

describe("health", () => {
  it("is 200 by GET and HEAD, for any caller", async () => {
    const get = await callH1(gateway.port, "/health", { method: "GET", headers: OTHER_ORIGIN });
    expect([get.status, get.text, get.headers.vary]).toEqual([200, '{"ok":true}', "Origin"]);
    const head = await callH1(gateway.port, "/health", { method: "HEAD" });
    expect([head.status, head.text, head.headers["content-length"]]).toEqual([200, "", "11"]);
  });

  it.each([
    ["the query key compression", "/health?compression=1", {}],
    ["an unknown encoding", "/health", { "content-encoding": "x" }],
  ])("with %s is 415", async (_case, path, headers) => {
    expect((await callH1(gateway.port, path, { method: "GET", headers })).status).toBe(415);
  });
});

describe("another path or method is 404, never 405", () => {
  const aliases = ["//batch/", "/BATCH/", "/batch//", "/health/", "/captures", "/e/e", "/i/v0", "/decides"];
  it.each([
    ...aliases.map((path) => ["POST", path] as const),
    ...["GET", "HEAD", "PUT", "PATCH", "DELETE"].map((method) => [method, "/batch/"] as const),
    ["POST", "/health"] as const,
    ["GET", "/nope?a=1"] as const,
  ])("%s %s", async (method, path) => {
    const body = method === "GET" || method === "HEAD" ? "" : GOOD;
    const answer = await callH1(gateway.port, path, { method, headers: JSON_TYPE, body });
    expect([answer.status, answer.headers["content-type"]]).toEqual([404, "application/json; charset=utf-8"]);
    expect(answer.headers.vary).toBe("Origin");
    if (method === "HEAD") return expect(answer.text).toBe("");
    const found = jsonOf(answer) as { message: string };
    expect(Object.keys(found)).toEqual(["message", "error", "statusCode"]);
    expect(found).toMatchObject({ error: "Not Found", statusCode: 404 });
    expect(found.message).toMatch(/^Route \w+:.+ not found/);
    // The original repeats the query, which may hold a token or events.
    const [shown] = path.split("?");
    expect(found.message).toContain(`Route ${method}:${shown} not found`);
  });

  it.each([
    ["an unknown content type", { headers: { "content-type": "text/x" }, body: "x" }],
    ["an unknown encoding", { headers: { ...JSON_TYPE, "content-encoding": "x" }, body: "x" }],
    ["too many bytes", { body: TOO_LARGE }],
    ["broken JSON", { body: "{" }],
    ["no body at all", { headers: {}, body: "" }],
    ["text", { headers: { "content-type": "text/plain" }, body: "x" }],
  ])("whatever is wrong with the body: %s", async (_case, call) => {
    expect((await post(call, "/captures")).status).toBe(404);
    expect((await post(call, "/batch/?compression=x")).status).toBe(415);
  });

  it("and an escaped path is the path it spells", async () => {
    expect((await post({ body: GOOD }, "/b%61tch/")).status).toBe(200);
  });
});

it.each(["/%zz", "/batch/%", "/%c3%28"])("the path %s is no text: 400 without a word to browsers", async (path) => {
  const answer = await post({ headers: { ...JSON_TYPE, origin: ORIGIN }, body: GOOD }, path);
  expect(answer.status).toBe(400);
  expect(answer.text).toBe(
    JSON.stringify({
      error: "Bad Request",
      code: "FST_ERR_BAD_URL",
      message: `'${path}' is not a valid url component`,
      statusCode: 400,
    }),
  );
  expect(answer.headers.vary).toBeUndefined();
  expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
});

itInProcess(
  "the log away is 503 with Retry-After and nothing of the reason, and the events come in by a second try",
  async () => {
    gateway.inProcess?.appendBy(() =>
      Promise.reject(new Error("timestamp of table person_distinct_ids: Origin is not allowed")),
    );
    try {
      const answer = await post({ body: GOOD });
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
      expect(jsonOf(answer)).toEqual({
        status: "error",
        error: "the event log is unavailable; send the request again with the same uuids",
      });
    } finally {
      gateway.inProcess?.appendBy(undefined);
    }
    expect((await post({ body: GOOD })).status).toBe(200);
  },
);

itInProcess("too many bytes in flight are 503 with Retry-After", async () => {
  await using small = await startTestGateway({ publicApiKeys: [KEY], maxBytesInFlight: 65_536, maxBatchBytes: 60_000 });
  const release = Promise.withResolvers<void>();
  small.appendBy((_records, real) => release.promise.then(real));
  const body = JSON.stringify({ api_key: KEY, batch: [EVENT] }).padEnd(50_000);
  const waiting = callH1(small.port, "/batch/", { headers: JSON_TYPE, body });
  await expect.poll(() => small.appends.length).toBe(1);
  const answer = await callH1(small.port, "/batch/", { headers: JSON_TYPE, body });
  expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
  expect(Object.keys(jsonOf(answer) as object)).toEqual(["status", "error"]);
  release.resolve();
  expect((await waiting).status).toBe(200);
});

itInProcess("requests are counted by dialect and code", async () => {
  const count = async (code: string) =>
    (await gateway.inProcess?.metric("millrace_requests_total", { dialect: "batch", code })) ?? Number.NaN;
  const before = [await count("200"), await count("415")];
  await post({ body: GOOD });
  await post({ headers: {}, body: GOOD });
  expect([await count("200"), await count("415")]).toEqual(before.map((n) => n + 1));
});
