// Strangers at their worst against a gateway, each in a thread of their own, while a caller with a key sends its steady load:
// what the load meets meanwhile.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { encode } from "#lib/http/encodings.ts";
import { startTestGateway } from "./gateway.ts";
import { callH1, envelope } from "./http-calls.ts";

export interface StrangersOptions {
  strangers: number;
  seconds: number;
  eventsPerSecond: number;
}

export interface StrangersReport {
  /** Of the caller with a key. */
  requests: number;
  /** Answers other than 200, and failures, by what they were. */
  refused: Record<string, number>;
  p50: number;
  p99: number;
  /** What the strangers did, by kind. */
  attempts: Record<string, number>;
}

const KEY = "secret";
const EVENTS_PER_REQUEST = 100;
const PAUSE_MS = 100;
const BATCH = "/batch/";
const STREAM = "/millrace.events.v1.EventService/PublishStream";
const JSON_TYPE = { "content-type": "application/json" };

export async function runStrangers({ strangers, ...load }: StrangersOptions): Promise<StrangersReport> {
  const attempts: Record<string, number> = {};
  const gateway = startThread({ role: "gateway" });
  const [port] = (await Promise.race([once(gateway, "message"), failureOf(gateway)])) as [number];
  const others = startThread({ role: "strangers", port, strangers });
  await Promise.race([once(others, "message"), failureOf(others)]);
  others.on("message", (kind: string) => {
    attempts[kind] = (attempts[kind] ?? 0) + 1;
  });
  const { refused, tookMs } = await Promise.race([steadyLoad(port, load), failureOf(gateway), failureOf(others)]);
  await Promise.all([gateway.terminate(), others.terminate()]);
  tookMs.sort((a, b) => a - b);
  const share = (part: number) => tookMs[Math.min(tookMs.length - 1, Math.floor(part * tookMs.length))] ?? 0;
  return { requests: tookMs.length, refused, p50: share(0.5), p99: share(0.99), attempts };
}

interface Role {
  role: "gateway" | "strangers";
  port?: number;
  strangers?: number;
}

function startThread(role: Role): Worker {
  return new Worker(new URL(import.meta.url), { workerData: { strangersKit: role } });
}

async function failureOf(worker: Worker): Promise<never> {
  const [error] = (await once(worker, "error")) as [Error];
  throw error;
}

/** Requests begin when they are due, whatever became of those before. */
async function steadyLoad(port: number, { seconds, eventsPerSecond }: Omit<StrangersOptions, "strangers">) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const refused: Record<string, number> = {};
  const tookMs: number[] = [];
  const send = async () => {
    const batch = Array.from({ length: EVENTS_PER_REQUEST }, (_, n) => ({
      ...{ event: "page_view", distinct_id: `u${n}`, uuid: randomUUID() },
      properties: { $current_url: "https://shop.example/products/17?ref=mail", plan: "pro", price: 12.5 },
    }));
    const begun = performance.now();
    const found = await post(agent, port, JSON.stringify({ batch }), { ...JSON_TYPE, "x-api-key": KEY }).catch(String);
    tookMs.push(performance.now() - begun);
    if (found !== "200") refused[found] = (refused[found] ?? 0) + 1;
  };
  const calls: Promise<void>[] = [];
  const total = (seconds * eventsPerSecond) / EVENTS_PER_REQUEST;
  const begun = performance.now();
  for (let n = 0; n < total; n++) {
    await sleep(Math.max(0, begun + (n * EVENTS_PER_REQUEST * 1000) / eventsPerSecond - performance.now()));
    calls.push(send());
  }
  await Promise.all(calls);
  agent.destroy();
  return { refused, tookMs };
}

async function post(agent: http.Agent, port: number, body: string, headers: http.OutgoingHttpHeaders): Promise<string> {
  const length = { "content-length": Buffer.byteLength(body) };
  const request = http.request({ agent, port, path: BATCH, method: "POST", headers: { ...length, ...headers } });
  request.end(body);
  const [answer] = (await once(request, "response")) as [http.IncomingMessage];
  await answer.resume().toArray();
  return String(answer.statusCode);
}

type Stranger = (port: number, address: string) => Promise<unknown>;

async function kinds(): Promise<Record<string, Stranger>> {
  const bombs = await Promise.all(["gzip", "br", "zstd"].map((name) => encode(name, Buffer.alloc(20_000_000, " "))));
  const frames = Buffer.concat(Array.from({ length: 10_000 }, () => Buffer.from("502a4d1800000000", "hex")));
  const body = (type: string, bytes: Buffer, encoding = "identity", path = BATCH) => {
    const call = { "content-type": type, "content-encoding": encoding };
    return (port: number, address: string) =>
      callH1(port, path, { body: bytes, headers: { ...call, "x-forwarded-for": address } });
  };
  return {
    "held body": heldBody,
    "slow head": slowHead,
    "endless message": endlessMessage,
    "gzip bomb": body("application/json", bombs[0] as Buffer, "gzip"),
    "br bomb": body("text/plain", bombs[1] as Buffer, "br", "/e/"),
    "zstd bomb": body("text/plain", bombs[2] as Buffer, "zstd", "/v1/batch"),
    "zstd frames": body("text/plain", frames, "zstd", "/e/"),
    "deep arrays": body("application/json", Buffer.alloc(1_900_000, "[")),
    "many objects": body("text/plain", Buffer.from(`[${"{},".repeat(600_000)}{}]`), "identity", "/e/"),
    nowhere: body("application/json", Buffer.alloc(1_000_000, " "), "identity", "/nowhere"),
  };
}

/** Until the gateway has had enough. */
async function heldBody(port: number, address: string): Promise<void> {
  const socket = net.connect(port, "127.0.0.1").on("error", () => {});
  const head = `POST ${BATCH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Forwarded-For: ${address}\r\n`;
  socket.write(`${head}Content-Length: 2000000\r\n\r\n${" ".repeat(1_000_000)}`);
  await once(socket.resume(), "close");
}

async function slowHead(port: number): Promise<void> {
  const socket = net.connect(port, "127.0.0.1").on("error", () => {});
  const drip = setInterval(() => socket.write("x-a: b\r\n"), 200);
  socket.write("POST /batch/ HTTP/1.1\r\n");
  await once(socket.resume(), "close");
  clearInterval(drip);
}

async function endlessMessage(port: number, address: string): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${port}`).on("error", () => {});
  const headers = {
    ":method": "POST",
    ":path": STREAM,
    "content-type": "application/grpc",
    "x-forwarded-for": address,
  };
  const stream = session.request(headers).on("error", () => {});
  const head = envelope(Buffer.alloc(0));
  head.writeUInt32BE(2_000_000_000, 1);
  stream.write(head);
  const more = setInterval(() => stream.write(Buffer.alloc(10_000)), PAUSE_MS);
  await once(stream.resume(), "close");
  clearInterval(more);
  session.destroy();
}

async function beStrangers(port: number, count: number, told: (kind: string) => void): Promise<never> {
  const all = Object.entries(await kinds());
  told("ready");
  const live = async (n: number): Promise<never> => {
    const [kind, attack] = all[n % all.length] as (typeof all)[0];
    for (;;) {
      // What becomes of them is nobody's concern.
      await attack(port, `10.0.${n >> 8}.${n & 255}`).catch(() => {});
      told(kind);
      await sleep(PAUSE_MS);
    }
  };
  return await Promise.race(Array.from({ length: count }, (_, n) => live(n)));
}

const { strangersKit } = ((isMainThread ? undefined : workerData) ?? {}) as { strangersKit?: Role };
if (strangersKit?.role === "gateway") {
  const settings = { secretApiKeys: [KEY], trustedProxies: ["loopback"], maxConnectionsPerAddress: 1000 };
  // It ends with its thread.
  const { port } = await startTestGateway(settings);
  parentPort?.postMessage(port);
} else if (strangersKit) {
  const { port = 0, strangers = 0 } = strangersKit;
  if (strangers === 0) parentPort?.postMessage("ready");
  else await beStrangers(port, strangers, (kind) => parentPort?.postMessage(kind));
}
