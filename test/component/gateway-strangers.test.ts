// Who may cost the gateway how much: bodies that unpack to a lot, bodies that hold room and never end, JSON made to be
// expensive. Each over every wire, because the bound is the edge's and not the dialect's.
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { encode } from "#lib/http/encodings.ts";
import { EVENT, JSON_TYPE, KEY, ORIGIN, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1, connectH2, envelope, exchangeRaw } from "../kit/http-calls.ts";
import { atMost, patience } from "../kit/patience.ts";
import { RPC_BODY, SINGLE, send, WIRES, type Wire } from "../kit/stranger-calls.ts";

const MiB = 1024 * 1024;
const SLOW = { timeout: 10_000 };
const BOUND = 4 * MiB;
const SETTINGS = {
  ...{ publicApiKeys: [KEY], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN], trustedProxies: ["loopback"] },
  ...{ maxBytesInFlight: BOUND, bodyIdleTimeout: 60_000 },
};
const wires = Object.entries(WIRES);
const wire = (name: string) => WIRES[name] as Wire;

let gateway: TestGateway;
beforeEach(async () => {
  gateway = await startTestGateway(SETTINGS);
});
afterEach(async () => {
  await expect.poll(() => inFlight(), SLOW).toBe(0);
  await gateway[Symbol.asyncDispose]();
});

const inFlight = () => gateway.metric("millrace_gateway_in_flight_bytes");
const from = (address: string) => ({ "x-forwarded-for": address });

/** An ordinary request of a caller with the secret key, over each wire that takes events. */
async function expectServed(headers: Record<string, string> = { "x-api-key": SECRET }): Promise<void> {
  const batch = Buffer.from(JSON.stringify({ batch: [EVENT] }));
  expect((await send(gateway.port, wire("/events"), Buffer.from(SINGLE), { headers })).status).toBe(200);
  expect((await send(gateway.port, wire("/batch/"), batch, { headers })).status).toBe(200);
  expect((await send(gateway.port, wire("Connect"), Buffer.from(RPC_BODY), { headers })).status).toBe(200);
}

/** Connections that send `bytes` of a body each and then stand still. */
async function holdBodies(path: string, count: number, bytes: number, headers: string): Promise<AsyncDisposable> {
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = net.connect(gateway.port, "127.0.0.1").on("error", () => {});
      await once(socket, "connect");
      const length = `Content-Length: ${bytes + 5}\r\n`;
      socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n${headers}${length}\r\n`);
      socket.write(Buffer.alloc(bytes, " "));
      return socket.resume();
    }),
  );
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(sockets.map((socket) => (socket.destroyed ? undefined : once(socket.destroy(), "close"))));
    },
  };
}

describe("a body that unpacks to 20 MB, sent 20 times at once, costs no more memory than is in flight", () => {
  const encodings = ["gzip", "deflate", "br", "zstd"];
  const bodies = new Map<string, Uint8Array>();
  beforeAll(async () => {
    const blanks = Buffer.alloc(20_900_000, " ");
    for (const encoding of encodings) bodies.set(encoding, await encode(encoding, blanks));
  });
  // By its first bytes alone.
  const unnamed = { ...wire("/batch/"), path: "/e/", type: "text/plain", encodingHeader: "x-nothing" };
  const named = wires.flatMap(([name, each]) => encodings.map((encoding) => [name, encoding, each] as const));
  it.each([...named, ["PostHog without a header", "gzip", unnamed] as const])(
    "%s, %s",
    { timeout: patience(30_000) },
    async (_name, encoding, each) => {
      const bytes = bodies.get(encoding) as Uint8Array;
      const framed = each.framed ? envelope(bytes, 1) : bytes;
      expect(framed.length).toBeLessThan(30_000);
      // What is refused without its body costs nothing, so these have a key, except where it would be in the body.
      const headers = {
        ...{ "content-type": each.type, [each.encodingHeader]: encoding },
        ...(each.path === "/batch/" || each.path === "/e/" ? {} : { "x-api-key": SECRET }),
      };
      const before = process.memoryUsage().rss;
      let most = 0;
      const watch = setInterval(() => {
        most = Math.max(most, process.memoryUsage().rss - before);
      }, 2);
      const session = http2.connect(gateway.url);
      session.on("error", () => {});
      const call = async () => {
        if (!each.h2) return each.statusOf(await callH1(gateway.port, each.path, { headers, body: framed }));
        const stream = session.request({ ":method": "POST", ":path": each.path, ...headers });
        stream.on("error", () => {}).resume();
        stream.end(framed);
        await once(stream, "close");
        return "";
      };
      const statuses = await Promise.all(Array.from({ length: 20 }, call));
      clearInterval(watch);
      session.destroy();
      for (const status of statuses) expect(status).not.toMatch(/^(200|ok|grpc 0)$/);
      // One request alone may be as large as MAX_BATCH_BYTES, and is then in one piece and a text.
      expect(most).toBeLessThan(200 * MiB);
      await expectServed();
    },
  );
});

describe("who holds room keeps nobody else out", () => {
  it("strangers, neither callers with a key nor strangers from elsewhere nor pages", async () => {
    await using _held = await holdBodies("/batch/", 20, 100_000, from10("10.0.0.1"));
    await expect.poll(() => inFlight(), SLOW).toBeGreaterThan(400_000);
    await expectServed();
    await expectServed({ "x-api-key": KEY });
    const inBody = (key: string) => Buffer.from(JSON.stringify({ batch: [EVENT], api_key: key }));
    expect((await send(gateway.port, wire("/batch/"), inBody(KEY), { headers: from("10.0.0.2") })).status).toBe(200);
    const page = { origin: ORIGIN, ...from("10.0.0.1") };
    expect((await send(gateway.port, wire("/batch/"), inBody(""), { headers: page })).status).toBe(200);
    const same = await send(gateway.port, wire("/batch/"), Buffer.alloc(200_000, " "), { headers: from("10.0.0.1") });
    expect([same.status, same.headers["retry-after"]]).toEqual([503, "1"]);
  });

  it.each(["/nowhere", "/batch//", "/millrace.events.v1.EventService/Nope"])(
    "%s: what goes nowhere is answered without being read",
    async (path) => {
      await using _held = await holdBodies(path, 20, 500_000, "");
      expect(await inFlight()).toBe(0);
      const head = `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: text/x\r\nContent-Encoding: x\r\nContent-Length: 1000000\r\n\r\n`;
      expect(await exchangeRaw(gateway.port, head)).toMatch(/^HTTP\/1\.1 404 /);
      await expectServed();
    },
  );

  it.each(["/events", "/batch/", "/millrace.events.v1.EventService/Publish"])(
    "%s: a public key, neither others with the same key nor with another",
    async (path) => {
      await using _held = await holdBodies(path, 20, 500_000, `X-Api-Key: ${KEY}\r\n${from10("10.0.0.1")}`);
      await expect.poll(() => inFlight(), SLOW).toBeGreaterThan(1_400_000);
      await expectServed();
      await expectServed({ "x-api-key": KEY, ...from("10.0.0.2") });
    },
  );

  it("one unfinished message of a stream, likewise", async () => {
    const session = http2.connect(gateway.url);
    const stream = session.request({
      ...{ ":method": "POST", ":path": wire("Connect stream").path, "content-type": "application/connect+json" },
      ...{ "x-api-key": KEY, ...from("10.0.0.1") },
    });
    stream.on("error", () => {}).resume();
    const message = envelope(Buffer.alloc(BOUND + MiB, " "));
    stream.write(message.subarray(0, BOUND));
    await expect.poll(() => inFlight(), SLOW).toBeGreaterThan(BOUND / 2);
    await expectServed();
    await expectServed({ "x-api-key": KEY, ...from("10.0.0.2") });
    session.destroy();
  });
});

function from10(address: string): string {
  return `X-Forwarded-For: ${address}\r\n`;
}

describe("a body that stands still is given up soon, and its caller hears of it", () => {
  beforeEach(async () => {
    await gateway[Symbol.asyncDispose]();
    const times = { bodyIdleTimeout: 400, headersTimeout: 1_000, requestTimeout: 1_500 };
    gateway = await startTestGateway({ ...SETTINGS, ...times });
  });

  const bodies = wires.filter(([, { h2 }]) => !h2);
  it.each(bodies)("%s", async (_name, each) => {
    const head = `POST ${each.path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: ${SECRET}\r\nContent-Type: ${each.type}\r\nContent-Length: 100\r\n\r\n{`;
    const answer = await exchangeRaw(gateway.port, head);
    expect(answer).toMatch(each.framed ? /grpc-status: ?14/ : /^HTTP\/1\.1 (408|503) /);
    expect(decodeURIComponent(answer)).toContain("stood still");
  });

  it.each(wires.filter(([, { h2 }]) => h2))("%s", async (_name, each) => {
    const session = http2.connect(gateway.url);
    const headers = { ":method": "POST", ":path": each.path, "content-type": each.type, "x-api-key": SECRET };
    const stream = session.request(headers);
    const said: string[] = [];
    stream.on("error", () => {}).on("data", (chunk: Buffer) => said.push(chunk.toString()));
    stream.on("trailers", (trailers) => said.push(JSON.stringify(trailers)));
    stream.on("response", (head) => said.push(JSON.stringify(head)));
    stream.write(envelope(Buffer.alloc(100, " ")).subarray(0, 50));
    await once(stream, "close");
    expect(said.join("")).toMatch(/stood%20still|stood still/);
    session.destroy();
  });

  it("one that comes in drops is given up when a whole request's time is over", async () => {
    const session = http2.connect(gateway.url);
    const { path, type } = wire("Connect stream");
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, "x-api-key": SECRET });
    stream.on("error", () => {});
    let said = "";
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    stream.write(envelope(Buffer.alloc(1000, " ")).subarray(0, 50));
    const drip = setInterval(() => stream.writable && stream.write(" "), 100);
    await once(stream, "close");
    clearInterval(drip);
    expect(said).toContain("took too long");
    session.destroy();
  });

  it("but a stream may be silent between its messages", async () => {
    const session = http2.connect(gateway.url);
    const { path, type } = wire("Connect stream");
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, "x-api-key": SECRET });
    stream.write(envelope(Buffer.from(RPC_BODY)));
    await once(stream, "data");
    const begun = performance.now();
    await expect.poll(() => performance.now() - begun, { timeout: 5_000 }).toBeGreaterThan(1_000);
    stream.write(envelope(Buffer.from(RPC_BODY)));
    const [answer] = (await once(stream, "data")) as [Buffer];
    expect(answer.toString()).toContain('"accepted":1');
    session.destroy();
  });
});

describe("a body whose sender is not known yet", () => {
  const post = (body: string, headers: Record<string, string> = {}) =>
    callH1(gateway.port, "/batch/", { headers: { ...JSON_TYPE, ...headers }, body });
  const large = (keyFirst: boolean, bytes: number) => {
    const batch = `"batch":[${JSON.stringify({ ...EVENT, properties: { pad: "x".repeat(800_000) } })}]`;
    return `{${keyFirst ? `"api_key":"${KEY}",${batch}` : `${batch},"api_key":"${KEY}"`}}`.padEnd(bytes);
  };

  it.each([
    ["with its key at the end, 2 MiB", large(false, 2 * MiB), {}],
    ["with its key at the beginning, 20 MB", large(true, 20_000_000), {}],
    ["from a listed page, 4 MiB", large(false, 4 * MiB), { origin: ORIGIN }],
    ["with the key in a header, 20 MB", large(false, 20_000_000), { "x-api-key": KEY }],
  ])("%s, is taken", async (_case, body, headers) => {
    expect((await post(body, headers)).text).toBe('{"status":"ok","ingested":1,"dropped":0}');
  });

  it.each([
    ["with its key at the end", large(false, 2 * MiB + 1), {}],
    ["with an unknown key at the beginning", large(true, 3 * MiB).replace(KEY, "nope"), {}],
    ["from a listed page", large(false, 4 * MiB + 1), { origin: ORIGIN }],
  ])("%s, and larger, is told where to send the key", async (_case, body, headers) => {
    const answer = await post(body, headers);
    expect(answer.status).toBe(413);
    expect(answer.text).toContain("authorization: Bearer KEY");
  });

  const repeated = (text: string, bytes: number) => text.repeat(Math.floor(bytes / text.length));
  const within = 2 * MiB - 100;
  it.each([
    ["empty objects", `{"batch":[${repeated('{"a":{}},', within)}{}]}`, 401],
    ["open arrays", repeated("[", within), 400],
    ["empty arrays", `{"x":[${repeated("[],", within)}[]]}`, 400],
    ["keys", `{"a":0${repeated(',"b":0', within)}}`, 400],
    ["empty arrays beside the word proto", `{"batch":[],"proto":[${repeated("[],", within)}[]]}`, 400],
    ["a text that looks like all of it", `{"batch":[],"x":"${repeated('[{\\"', within)}"}`, 400],
  ])("of %s is refused for the price of reading it", async (_case, body, status) => {
    const begun = performance.now();
    const answer = await post(body);
    expect(answer.status).toBe(status);
    // JSON.parse took seconds for these; what is left is reading two megabytes.
    expect(performance.now() - begun).toBeLessThan(atMost(1_000));
  });

  it("a batch of many small events is not refused", async () => {
    const batch = Array.from({ length: 10_000 }, (_, i) => ({ ...EVENT, properties: { i, a: [1, 2], b: { c: "d" } } }));
    const body = JSON.stringify({ batch, api_key: KEY });
    expect((await post(body)).text).toBe('{"status":"ok","ingested":10000,"dropped":0}');
  });
});

it("where no key is set, every caller counts as one who has a key", async () => {
  await using open = await startTestGateway({ maxBytesInFlight: BOUND, allowedOrigins: [ORIGIN] });
  const body = JSON.stringify({ batch: [{ ...EVENT, properties: { a: "x".repeat(500_000) } }] }).padEnd(15_000_000);
  const answer = await callH1(open.port, "/batch/", { headers: { ...JSON_TYPE, origin: ORIGIN }, body });
  expect(answer.status).toBe(200);
});

describe("a health check over RPC needs no key and no room", () => {
  const path = "/grpc.health.v1.Health/Check";
  it("also of a gateway that is full", async () => {
    await using _held = await holdBodies("/events", 1, BOUND, `X-Api-Key: ${SECRET}\r\n`);
    await expect.poll(() => inFlight(), SLOW).toBe(BOUND);
    expect((await callH1(gateway.port, path, { headers: JSON_TYPE, body: "{}" })).text).toBe('{"status":"SERVING"}');
    using connection = connectH2(gateway.port);
    const headers = { "content-type": "application/grpc" };
    const answer = await connection.call(path, { headers, body: envelope(Buffer.alloc(0)) });
    expect([answer.status, answer.body[0]]).toEqual([200, 0]);
  });

  it("but takes no more than a name", async () => {
    const body = JSON.stringify({ service: "x".repeat(10_000) });
    expect((await callH1(gateway.port, path, { headers: JSON_TYPE, body })).status).toBe(429);
  });
});

describe("without keys, on loopback, only this machine may call", () => {
  let open: TestGateway;
  beforeEach(async () => {
    open = await startTestGateway({ allowedOrigins: [ORIGIN] });
  });
  afterEach(() => open[Symbol.asyncDispose]());

  const takers = wires.filter(([name]) => name !== "/batch/" && name !== "/admin/replay");
  const bodyOf = ({ path, type }: Wire) =>
    Buffer.from(type.includes("grpc") ? "\n\u0003\u0012\u0001e" : path === "/events" ? SINGLE : RPC_BODY);
  const refusedBy = [
    ["a page that is not listed", { origin: "https://evil.example" }],
    ["a page that resolves to this machine", { origin: "http://evil.example:8080", host: "evil.example:8080" }],
    ["a sandboxed page", { origin: "null" }],
    ["a name of somebody else", { host: "evil.example:8080" }],
    ["an address of somebody else", { host: "192.0.2.1:8080" }],
  ] as const;
  it.each(takers.flatMap(([name, each]) => refusedBy.map((by) => [name, by[0], each, by[1]] as const)))(
    "%s: not %s",
    async (_name, _by, each, { host, ...headers }: Record<string, string>) => {
      const named = host === undefined ? {} : each.h2 ? { ":authority": host } : { host };
      const answer = await send(open.port, each, bodyOf(each), { headers: { ...headers, ...named } });
      expect(each.statusOf(answer)).toMatch(/^(403|permission_denied|grpc 7)$/);
      expect(await open.stored()).toEqual([]);
    },
  );

  it.each([
    ["no page", {}],
    ["a listed page", { origin: ORIGIN }],
    ["localhost", { host: "localhost:8080" }],
    ["localhost with a dot", { host: "LOCALHOST.:8080" }],
    ["another address of loopback", { host: "127.0.0.2" }],
    ["IPv6", { host: "[::1]:8080" }],
  ])("but %s", async (_by, headers) => {
    expect((await send(open.port, wire("/events"), Buffer.from(SINGLE), { headers })).status).toBe(200);
  });
});
