// Who may write to /batch/ (product-analytics contract, section 1.7), what browsers are told (1.6), and whose events are
// trusted to join people.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { EVENT, JSON_TYPE, jsonOf, KEY, ORIGIN, postBatch, SECRET } from "../kit/batch-calls.ts";
import { itInProcess, startContractGateway } from "../kit/contract-gateway.ts";
import { callH1, connectH2 } from "../kit/http-calls.ts";

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const NO_KEY = { api_key: undefined };
const PREFLIGHT = { "access-control-request-method": "POST" };

let gateway: Awaited<ReturnType<typeof startContractGateway>>;
/** The same without any key set: only /batch/ is not open. */
let keyless: typeof gateway;
beforeAll(async () => {
  gateway = await startContractGateway({
    publicApiKeys: [KEY, "both"],
    secretApiKeys: [SECRET, "both"],
    allowedOrigins: [ORIGIN, "null", "*"],
  });
  keyless = await startContractGateway({ allowedOrigins: [ORIGIN] });
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await keyless[Symbol.asyncDispose]();
});

describe("a key or a listed Origin is asked for", () => {
  it.each([
    ["a listed origin, no key", { origin: ORIGIN }, undefined, ""],
    ["a listed origin, a blank key", { origin: ORIGIN }, "  ", ""],
    ["a listed origin, a public key", { origin: ORIGIN }, KEY, KEY],
    ["a listed origin, a secret key", { origin: ORIGIN }, SECRET, SECRET],
    ["no origin, a public key", {}, KEY, KEY],
    ["no origin, a public key with blanks around it", {}, ` ${KEY}\n`, KEY],
    ["no origin, a secret key", {}, SECRET, SECRET],
    ["an empty origin, a public key", { origin: "" }, KEY, KEY],
    ["the key as a bearer token", { authorization: `Bearer ${KEY}` }, undefined, KEY],
    ["the key as a basic user", { authorization: `Basic ${btoa(`${SECRET}:`)}` }, undefined, SECRET],
    ["the key as x-api-key", { "x-api-key": KEY }, undefined, KEY],
    ["a blank key, and one as x-api-key", { "x-api-key": KEY }, " ", KEY],
    ["a good key, and a wrong one in a header that does not count", { "x-api-key": "nope" }, KEY, KEY],
  ])("%s: stored", async (_case, headers, key, stored) => {
    const answer = await postBatch(gateway.port, [EVENT, { ...EVENT, api_key: key }], { api_key: key }, headers);
    expect([answer.status, answer.text]).toEqual([200, '{"status":"ok","ingested":2,"dropped":0}']);
    expect((await gateway.events()).slice(-2).map(({ apiKey }) => apiKey)).toEqual([stored, stored]);
  });

  it("the key of one event is that of all", async () => {
    await postBatch(gateway.port, [EVENT, { ...EVENT, api_key: ` ${KEY} ` }, { api_key: KEY }], NO_KEY);
    expect((await gateway.events()).slice(-2).map(({ apiKey }) => apiKey)).toEqual([KEY, KEY]);
  });

  it.each([
    ["a listed origin, an unknown key", { origin: ORIGIN }, "nope", 401, "api_key"],
    ["a listed origin, an unknown key in a header", { origin: ORIGIN, "x-api-key": "nope" }, undefined, 401, "api_key"],
    ["no origin, no key", {}, undefined, 401, "api_key"],
    ["no origin, a blank key", {}, " ", 401, "api_key"],
    ["no origin, an unknown key", {}, "nope", 401, "api_key"],
    ["no origin, a key in another case", {}, KEY.toUpperCase(), 401, "api_key"],
    ["no origin, a wrong key, and a good one in a header", { "x-api-key": KEY }, "nope", 401, "api_key"],
    ["an empty origin, no key", { origin: "" }, undefined, 401, "api_key"],
    ["another origin", { origin: "https://other.example" }, undefined, 403, "origin"],
    ["another origin, a public key", { origin: "https://other.example" }, KEY, 403, "origin"],
    ["another origin, a secret key", { origin: "https://other.example" }, SECRET, 403, "origin"],
    ["the origin null, though listed", { origin: "null" }, KEY, 403, "origin"],
    ["the origin *, though listed", { origin: "*" }, KEY, 403, "origin"],
    ["the origin in another case", { origin: ORIGIN.toUpperCase() }, KEY, 403, "origin"],
    ["the origin with a slash", { origin: `${ORIGIN}/` }, KEY, 403, "origin"],
    ["the origin with another port", { origin: `${ORIGIN}:8443` }, KEY, 403, "origin"],
    ["the origin with another scheme", { origin: ORIGIN.replace("https", "http") }, KEY, 403, "origin"],
    ["the origin twice", { origin: `${ORIGIN}, ${ORIGIN}` }, KEY, 403, "origin"],
  ])("%s: refused", async (_case, headers, key, status, field) => {
    const before = (await gateway.stored()).length;
    const answer = await postBatch(gateway.port, [EVENT], { api_key: key }, headers);
    expect(answer.status).toBe(status);
    expect(jsonOf(answer)).toMatchObject({ status: "error", error: expect.stringMatching(`^${field}: `) });
    expect((await gateway.stored()).length).toBe(before);
  });

  it("the key in the query counts for nothing", async () => {
    const body = JSON.stringify({ batch: [EVENT] });
    expect((await callH1(gateway.port, `/batch/?api_key=${KEY}`, { headers: JSON_TYPE, body })).status).toBe(401);
  });

  it("also where no key is set and every other path is open", async () => {
    expect((await postBatch(keyless.port, [EVENT])).status).toBe(401);
    expect((await postBatch(keyless.port, [EVENT], NO_KEY)).status).toBe(401);
    expect((await postBatch(keyless.port, [EVENT], {}, { origin: ORIGIN })).status).toBe(401);
    expect((await postBatch(keyless.port, [EVENT], NO_KEY, { origin: ORIGIN })).status).toBe(200);
    const body = '{"events":[{"event":"e"}]}';
    expect((await callH1(keyless.port, PUBLISH, { headers: JSON_TYPE, body })).status).toBe(200);
  });

  it("a listed origin opens no other path", async () => {
    const headers = { ...JSON_TYPE, origin: ORIGIN };
    const event = '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}';
    expect((await callH1(gateway.port, "/events", { headers, body: event })).status).toBe(401);
    expect((await callH1(gateway.port, PUBLISH, { headers, body: '{"events":[{"event":"e"}]}' })).status).toBe(401);
  });

  it("entries that no browser sends are named at the start", () => {
    const line = gateway.lines.find((each) => each.includes("ALLOWED_ORIGINS"));
    expect(JSON.parse(line ?? "{}")).toMatchObject({ level: "warn", origins: ["null", "*"] });
  });
});

describe("an event is trusted to join people", () => {
  const trustOfLast = async () => (await gateway.events()).at(-1)?.trusted;
  const single = '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}';
  const paths = [
    ["/batch/", JSON.stringify({ batch: [EVENT] })],
    ["/events", single],
    [PUBLISH, '{"events":[{"event":"e"}]}'],
  ] as const;
  const cases = [
    ["with a secret key", { "x-api-key": SECRET }, true],
    ["not with a public key", { "x-api-key": KEY }, false],
    ["not with a key in both lists", { "x-api-key": "both" }, false],
    ["not with a secret key from a page", { "x-api-key": SECRET, origin: ORIGIN }, false],
  ] as const;

  it.each(paths.flatMap(([path, body]) => cases.map((each) => [path, ...each, body] as const)))(
    "%s %s",
    async (path, _case, headers, trusted, body) => {
      expect((await callH1(gateway.port, path, { headers: { ...JSON_TYPE, ...headers }, body })).status).toBe(200);
      expect(await trustOfLast()).toBe(trusted);
    },
  );

  it("over gRPC alike", async () => {
    const client = createClient(EventService, createGrpcTransport({ baseUrl: gateway.url }));
    await client.publish({ events: [{ event: "e" }] }, { headers: { authorization: `Bearer ${SECRET}` } });
    expect(await trustOfLast()).toBe(true);
  });

  it("not where no key is set", async () => {
    await callH1(keyless.port, "/events", { headers: JSON_TYPE, body: single });
    expect((await keyless.events()).at(-1)?.trusted).toBe(false);
  });
});

const GRANTED = {
  "access-control-allow-origin": ORIGIN,
  "access-control-allow-credentials": "true",
  "access-control-expose-headers": "retry-after",
};
const corsOf = (headers: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("access-control-")));

describe("every answer to a listed origin can be read by its page", () => {
  const body = JSON.stringify({ batch: [EVENT] });
  it.each([
    ["200", "/batch/", { ...JSON_TYPE }, body],
    ["400", "/batch/", { ...JSON_TYPE }, "{"],
    ["401", "/batch/", { ...JSON_TYPE, "x-api-key": "nope" }, body],
    ["404", "/captures", { ...JSON_TYPE }, body],
    ["413", "/batch/", { ...JSON_TYPE, "content-length": "99999999" }, ""],
    ["415", "/batch/", {}, body],
    ["404", "/health", { ...JSON_TYPE }, body],
  ])("%s of %s", async (status, path, headers, sent) => {
    const answer = await callH1(gateway.port, path, { headers: { ...headers, origin: ORIGIN }, body: sent });
    expect([String(answer.status), answer.headers.vary, corsOf(answer.headers)]).toEqual([status, "Origin", GRANTED]);
    const other = await callH1(gateway.port, path, {
      headers: { ...headers, origin: "https://x.example" },
      body: sent,
    });
    expect([other.headers.vary, corsOf(other.headers)]).toEqual(["Origin", {}]);
  });

  itInProcess("503, which its SDK retries", async () => {
    gateway.inProcess?.appendBy(() => Promise.reject(new Error("away")));
    const answer = await postBatch(gateway.port, [EVENT], NO_KEY, { origin: ORIGIN });
    gateway.inProcess?.appendBy(undefined);
    expect([answer.status, corsOf(answer.headers)]).toEqual([503, GRANTED]);
  });

  it("health, over HTTP/2", async () => {
    using connection = connectH2(gateway.port);
    const answer = await connection.call("/health", { method: "GET", headers: { origin: ORIGIN } });
    expect([answer.status, corsOf(answer.headers)]).toEqual([200, GRANTED]);
  });
});

describe("a preflight", () => {
  const options = (path: string, headers: Record<string, string>) =>
    callH1(gateway.port, path, { method: "OPTIONS", headers });

  it.each(["/batch/", "/health", "/anything?compression=1"])("of a listed origin is granted at %s", async (path) => {
    const answer = await options(path, { origin: ORIGIN, ...PREFLIGHT, "content-encoding": "x" });
    expect([answer.status, answer.text, answer.headers["content-length"]]).toEqual([204, "", "0"]);
    expect(answer.headers.vary).toBe("Origin");
    expect(corsOf(answer.headers)).toEqual({
      ...GRANTED,
      "access-control-allow-methods": "POST, OPTIONS, GET",
      "access-control-allow-headers": "content-type, content-encoding, x-requested-with",
      "access-control-max-age": "7200",
    });
  });

  it.each([
    ["another origin", { origin: "https://x.example", ...PREFLIGHT }],
    ["another origin without a method", { origin: "https://x.example" }],
    ["the origin null", { origin: "null", ...PREFLIGHT }],
  ])("of %s is 404 without a word of CORS", async (_case, headers) => {
    for (const path of ["/batch/", "/health", PUBLISH]) {
      const answer = await options(path, headers);
      expect([answer.status, answer.headers.vary, corsOf(answer.headers)]).toEqual([404, "Origin", {}]);
      const body = jsonOf(answer) as { message: string };
      expect(body).toMatchObject({ error: "Not Found", statusCode: 404 });
      expect(body.message).toContain(`Route OPTIONS:${path} not found`);
    }
  });

  it.each([
    ["without an origin", PREFLIGHT],
    ["with an empty origin", { origin: "", ...PREFLIGHT }],
    ["without the method", { origin: ORIGIN }],
  ])("%s is 400 as text", async (_case, headers) => {
    for (const path of ["/batch/", PUBLISH]) {
      const answer = await options(path, headers as Record<string, string>);
      expect([answer.status, answer.text]).toEqual([400, "Invalid Preflight Request"]);
      expect([answer.headers["content-type"], answer.headers.vary]).toEqual(["text/plain; charset=utf-8", "Origin"]);
    }
  });
});

describe("RPC paths", () => {
  it("grant a listed origin the headers of Connect and gRPC-Web", async () => {
    const answer = await callH1(gateway.port, PUBLISH, {
      method: "OPTIONS",
      headers: { origin: ORIGIN, ...PREFLIGHT },
    });
    expect([answer.status, answer.headers["access-control-allow-methods"]]).toEqual([204, "POST"]);
    const allowed = answer.headers["access-control-allow-headers"]?.split(", ");
    for (const name of [
      ...["content-type", "connect-protocol-version", "connect-timeout-ms", "x-grpc-web", "x-user-agent"],
      ...["grpc-timeout", "authorization", "x-api-key"],
    ]) {
      expect(allowed).toContain(name);
    }
    expect(answer.headers["access-control-max-age"]).toBe("7200");
  });

  it.each([
    ["connect", JSON_TYPE, '{"events":[{"event":"e"}]}'],
    ["grpc-web", { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" }, Buffer.alloc(5)],
  ])("let a listed origin's page read status and message in %s", async (_protocol, headers, body) => {
    using h2 = connectH2(gateway.port);
    const call = { headers: { ...headers, "x-api-key": KEY, origin: ORIGIN }, body };
    for (const answer of [await callH1(gateway.port, PUBLISH, call), await h2.call(PUBLISH, call)]) {
      expect([answer.status, answer.headers.vary]).toEqual([200, "Origin"]);
      const { "access-control-expose-headers": shown = "", ...granted } = corsOf(answer.headers);
      expect({ ...granted, "access-control-expose-headers": "retry-after" }).toEqual(GRANTED);
      const exposed = String(shown).split(", ");
      for (const name of ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"]) {
        expect(exposed).toContain(name);
      }
    }
  });

  it("answer a page of another origin nothing that it could read", async () => {
    const headers = { ...JSON_TYPE, "x-api-key": KEY, origin: "https://x.example" };
    const answer = await callH1(gateway.port, PUBLISH, { headers, body: '{"events":[{"event":"e"}]}' });
    expect([answer.status, answer.headers.vary, corsOf(answer.headers)]).toEqual([200, "Origin", {}]);
  });
});
