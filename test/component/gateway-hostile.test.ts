// Callers who do not speak the protocol, stop in the middle, or mean harm: each gets its answer or its end, and the
// connection beside it is served as if nothing had been.
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { jsonOf } from "../kit/batch-calls.ts";
import { callGrpc } from "../kit/grpc-calls.ts";
import { type Answer, callH1, connectH1, connectH2, envelope, exchangeRaw } from "../kit/http-calls.ts";
import { GOOD, JSON_TYPE, PUBLISH, STREAM, watchGateway } from "../kit/watched-gateway.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_PROTOBUF = Buffer.from([0xff, 0xff, 0xff, 0x01, 0x02]);

const watched = watchGateway();

describe("bytes that are no protobuf are invalid_argument", () => {
  const protocols = ["HTTP/1.1", "HTTP/2"].flatMap(
    (version) =>
      [
        [version, "connect unary", PUBLISH, "application/proto", NO_PROTOBUF],
        [version, "grpc-web", PUBLISH, "application/grpc-web+proto", envelope(NO_PROTOBUF)],
        [version, "connect stream", STREAM, "application/connect+proto", envelope(NO_PROTOBUF)],
        [version, "grpc-web stream", STREAM, "application/grpc-web+proto", envelope(NO_PROTOBUF)],
      ] as const,
  );
  const overH2Only = (version: string, path: string) => version === "HTTP/1.1" && path === STREAM;

  it.each(protocols.filter(([version, , path]) => !overH2Only(version, path)))(
    "in %s %s",
    async (version, protocol, path, type, body) => {
      using connection = version === "HTTP/2" ? connectH2(watched.gateway.port) : connectH1(watched.gateway.port);
      const answer = await connection.call(path, { headers: { "content-type": type }, body });
      expect(answer.status).toBe(protocol === "connect unary" ? 400 : 200);
      if (protocol.startsWith("grpc-web")) {
        expect(answer.text.toLowerCase()).toMatch(/grpc-status: +3\r\n/);
        expectWholeFrames(answer.body);
      } else {
        expect(answer.text).toContain('"code":"invalid_argument"');
        expect(answer.text).toContain("parse binary");
        if (protocol === "connect stream") expectWholeFrames(answer.body);
      }
      const next = await connection.call(PUBLISH, { headers: JSON_TYPE, body: GOOD });
      expect(next.status).toBe(200);
    },
  );

  it("in grpc", async () => {
    const { trailers } = await callGrpc(watched.gateway.url, PUBLISH, envelope(NO_PROTOBUF));
    expect(trailers["grpc-status"]).toBe("3");
  });

  it("and counted as such", async () => {
    const before = await watched.gateway.metric("millrace_requests_total", { dialect: "connect", code: "400" });
    await callH1(watched.gateway.port, PUBLISH, {
      headers: { "content-type": "application/proto" },
      body: NO_PROTOBUF,
    });
    expect(await watched.gateway.metric("millrace_requests_total", { dialect: "connect", code: "400" })).toBe(
      before + 1,
    );
  });

  function expectWholeFrames(body: Buffer): void {
    let at = 0;
    while (at < body.length) at += 5 + body.readUInt32BE(at + 1);
    expect(at).toBe(body.length);
  }
});

describe("a malformed RPC", () => {
  it.each([
    ["broken JSON", "{nope", "body: is not JSON: "],
    ["an array", "[]", "PublishRequest"],
    ["nothing", "", "body: is not JSON: "],
    ["an unknown field", '{"events":[{"event":"a","evnt":1}]}', "events[0].evnt: is unknown"],
    ["an unknown field on top", '{"event":{}}', '\\"event\\" is unknown'],
    ["a wrong type", '{"events":[{"event":5}]}', "events[0].event: must be a string, not a number"],
    ["a wrong time", '{"events":[{"event":"a","time":"2026-13-01T00:00:00Z"}]}', "events[0].time: "],
    [
      "properties that are an array",
      '{"events":[{"event":"a","properties":[]}]}',
      "events[0].properties: must be an object, not an array",
    ],
    ["both kinds of properties", '{"events":[{"event":"a","properties":{},"propertiesJson":"{}"}]}', "properties"],
  ])("with %s is answered 400 saying where", async (_case, body, where) => {
    const answer = await callH1(watched.gateway.port, PUBLISH, { headers: JSON_TYPE, body });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain('"code":"invalid_argument"');
    expect(answer.text).toContain(where);
  });

  it("nested deep in JSON is that event's fault alone", async () => {
    const body = `{"events":[{"event":"a","properties":${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}},{"event":"b"}]}`;
    const answer = await callH1(watched.gateway.port, PUBLISH, { headers: JSON_TYPE, body });
    expect(jsonOf(answer)).toMatchObject({ accepted: 1, rejected: [{ code: "REJECTION_CODE_TOO_COMPLEX" }] });
  });

  it("nested deep in binary is invalid_argument, not a stack overflow", async () => {
    // Value{struct_value{fields{"a": Value{…}}}} 20,000 times, written from the inside out.
    const nest = (payload: Buffer, tag: number) => Buffer.concat([Buffer.from([tag]), varint(payload.length), payload]);
    let value = Buffer.from([0x20, 0x01]);
    for (let i = 0; i < 5_000; i++) {
      const entry = Buffer.concat([Buffer.from([0x0a, 0x01, 0x61]), nest(value, 0x12)]);
      value = nest(nest(entry, 0x0a), 0x2a);
    }
    const struct = nest(Buffer.concat([Buffer.from([0x0a, 0x01, 0x61]), nest(value, 0x12)]), 0x0a);
    const event = Buffer.concat([Buffer.from([0x12, 0x01, 0x61]), nest(struct, 0x3a)]);
    const answer = await callH1(watched.gateway.port, PUBLISH, {
      headers: { "content-type": "application/proto" },
      body: nest(event, 0x0a),
    });
    expect([answer.status, answer.text.includes('"code":"invalid_argument"')]).toEqual([400, true]);
  });

  it.each([
    ["-1 nanoseconds", -1],
    ["a whole second of nanoseconds", 1_000_000_000],
  ])("with %s in a binary time has that event refused", async (_case, nanos) => {
    const time = Buffer.concat([Buffer.from([0x08, 0x01, 0x10]), varint(BigInt.asUintN(64, BigInt(nanos)))]);
    const event = Buffer.concat([Buffer.from([0x12, 0x01, 0x61, 0x32, time.length]), time]);
    const headers = { "content-type": "application/proto" };
    const body = Buffer.concat([Buffer.from([0x0a, event.length]), event]);
    const answer = await callH1(watched.gateway.port, PUBLISH, { headers, body });
    expect(answer.status).toBe(200);
    expect(answer.text).toContain("time");
    expect(answer.text).toContain(`has ${nanos} nanos`);
  });

  it.each([
    ["junk declared as gzip", "gzip", 400],
    ["junk declared as br", "br", 400],
    ["junk declared as zstd", "zstd", 400],
    ["junk declared as deflate", "deflate", 400],
    ["an unknown encoding", "lzma", 501],
  ])("with %s is refused", async (_case, encoding, status) => {
    const headers = { ...JSON_TYPE, "content-encoding": encoding };
    expect((await callH1(watched.gateway.port, PUBLISH, { headers, body: "junk" })).status).toBe(status);
  });

  it.each([
    ["an unknown RPC", "/millrace.events.v1.EventService/Nope", "POST", JSON_TYPE, 404],
    ["an unknown service", "/nope.v1.Nope/Publish", "POST", JSON_TYPE, 404],
    ["GET", PUBLISH, "GET", JSON_TYPE, 405],
    ["an unknown content type", PUBLISH, "POST", { "content-type": "text/plain" }, 415],
  ])("by %s is refused", async (_case, path, method, headers, status) => {
    const body = method === "GET" ? "" : GOOD;
    expect((await callH1(watched.gateway.port, path, { method, headers, body })).status).toBe(status);
  });

  it("with scheme and authority in its target, as proxies send it, is served", async () => {
    const { gateway } = watched;
    const call = (path: string, method = "GET") => callH1(gateway.port, path, { method, headers: JSON_TYPE });
    expect((await call("http://h/healthz")).status).toBe(200);
    expect((await call("HTTP://[::1]:8080/readyz?x=1")).status).toBe(200);
    expect((await callH1(gateway.port, `http://h${PUBLISH}`, { headers: JSON_TYPE, body: GOOD })).status).toBe(200);
  });

  it("by another method is told which there is", async () => {
    const { status, headers } = await callH1(watched.gateway.port, PUBLISH, { method: "TRACE", headers: JSON_TYPE });
    expect([status, headers.allow]).toEqual([405, "POST"]);
  });

  it.each(["connect-timeout-ms", "grpc-timeout"])("with a %s that fits no timer is served", async (name) => {
    const warnings: string[] = [];
    const onWarning = (warning: Error) => warnings.push(warning.name);
    process.on("warning", onWarning);
    try {
      const headers = { ...JSON_TYPE, [name]: name === "grpc-timeout" ? "99999999H" : "9999999999" };
      expect((await callH1(watched.gateway.port, PUBLISH, { headers, body: GOOD })).status).toBe(200);
      if (name === "grpc-timeout") await callGrpc(watched.gateway.url, PUBLISH, envelope(Buffer.alloc(0)), headers);
      expect(warnings).toEqual([]);
    } finally {
      process.off("warning", onWarning);
    }
  });
});

describe("a caller who does not speak HTTP", () => {
  it.each([
    ["garbage", "\u0000\u0001garbage\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["a TLS hello", Buffer.from("16030100c8010000c40303", "hex"), /^HTTP\/1\.1 400 /],
    [
      "two content-lengths",
      `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}`,
      /^HTTP\/1\.1 400 /,
    ],
    [
      "a length beside chunks",
      `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
      /^HTTP\/1\.1 400 /,
    ],
    ["a head of 40 kB", `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ["HTTP/1.1 without Host", `POST ${PUBLISH} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`, /^HTTP\/1\.1 400 /],
    ["a head that never ends", `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nX-Slow: `, /^HTTP\/1\.1 408 /],
    [
      "a body that never ends",
      `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{`,
      /^HTTP\/1\.1 408 |^$/,
    ],
    ["nothing", "", /^$/],
    ["half a preface", PREFACE.slice(0, 12), /^$/],
    ["garbage after the preface", `${PREFACE}${"garbage!".repeat(50)}`, /./],
  ])("but %s hears of it and is disconnected", async (_case, bytes, answer) => {
    expect(await exchangeRaw(watched.gateway.port, bytes)).toMatch(answer);
  });

  it.each([
    [
      "no Host",
      `POST ${PUBLISH} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: ${GOOD.length}\r\n\r\n${GOOD}`,
    ],
    [
      "an invalid Host",
      `POST ${PUBLISH} HTTP/1.1\r\nConnection: close\r\nHost: a b:::\r\nContent-Type: application/json\r\nContent-Length: ${GOOD.length}\r\n\r\n${GOOD}`,
    ],
  ])("or names %s is answered 400", async (_case, bytes) => {
    expect(await exchangeRaw(watched.gateway.port, bytes)).toMatch(
      /^HTTP\/1\.1 400 .*host: the request names no valid host/s,
    );
  });

  it("by HTTP/1.0 is served when it names a Host", async () => {
    const head = `POST ${PUBLISH} HTTP/1.0\r\nHost: a\r\nContent-Type: application/json\r\n`;
    const answer = await exchangeRaw(watched.gateway.port, `${head}Content-Length: ${GOOD.length}\r\n\r\n${GOOD}`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 .*"accepted":1/s);
  });

  it("one byte at a time is understood", async () => {
    const socket = net.connect({ port: watched.gateway.port, host: "127.0.0.1", noDelay: true });
    const head = `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n`;
    let answer = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    const closed = once(socket, "close");
    for (const byte of `${head}Content-Length: ${GOOD.length}\r\n\r\n${GOOD}`) {
      await new Promise((resolve) => socket.write(byte, resolve));
    }
    await closed;
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("but pipelines its requests gets the answers in their order", async () => {
    const request = (events: number, connection: string) => {
      const body = JSON.stringify({ events: Array.from({ length: events }, () => ({ event: "p" })) });
      return `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nConnection: ${connection}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };
    const sizes = [1, 2, 3, 4, 5];
    const bytes = sizes.map((each) => request(each, each === 5 ? "close" : "keep-alive")).join("");
    const answer = await exchangeRaw(watched.gateway.port, bytes);
    expect([...answer.matchAll(/"accepted":(\d)/g)].map((match) => Number(match[1]))).toEqual(sizes);
  });
});

it("a caller's headers are stored within bounds", async () => {
  const headers = { ...JSON_TYPE, "user-agent": "x".repeat(10_000) };
  await callH1(watched.gateway.port, PUBLISH, { headers, body: GOOD });
  expect((await watched.gateway.events()).at(-1)?.userAgent).toBe("x".repeat(512));
});

it("events of 200 different months in one request are all stored", async () => {
  const time = (month: number) => new Date(Date.UTC(2005, month, 1)).toISOString();
  const events = Array.from({ length: 200 }, (_, month) => ({ event: "m", time: time(month) }));
  const answer: Answer = await callH1(watched.gateway.port, PUBLISH, {
    headers: JSON_TYPE,
    body: JSON.stringify({ events }),
  });
  expect(answer.text).toBe('{"accepted":200}');
});

it("300 refused calls on one HTTP/2 connection leave it good for the next", async () => {
  using connection = connectH2(watched.gateway.port);
  for (let i = 0; i < 300; i++) {
    const answer = await connection.call(PUBLISH, {
      headers: { "content-type": "text/plain" },
      body: Buffer.alloc(20_000),
    });
    expect(answer.status).toBe(415);
  }
  expect((await connection.call(PUBLISH, { headers: JSON_TYPE, body: GOOD })).status).toBe(200);
});

it("a connection that is upgraded to h2c by header goes on as HTTP/1.1", async () => {
  const request = http.request({
    port: watched.gateway.port,
    path: PUBLISH,
    method: "POST",
    agent: false,
    headers: {
      ...JSON_TYPE,
      connection: "Upgrade, HTTP2-Settings",
      upgrade: "h2c",
      "http2-settings": "AAMAAABkAAQAAP__",
    },
  });
  request.end(GOOD);
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  response.resume();
  expect(response.statusCode).toBe(200);
  request.destroy();
});

function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}
