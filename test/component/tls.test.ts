// TLS from both sides: gateway and stats under a certificate of their own, and the clients that are told to trust one.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import https from "node:https";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { createLogger } from "#lib/process/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions, clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { gatewaySchema } from "../../services/gateway/config.ts";
import { statsSchema } from "../../services/stats/config.ts";
import { createTestCertificates, type TestCertificates } from "../kit/certificates.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { createMemoryWarehouse } from "../kit/memory-warehouse.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { startTestStats } from "../kit/stats.ts";

const WAIT = { timeout: 10_000, interval: 20 };
const run = promisify(execFile);

let files: TestCertificates;
let ca: string;
let gateway: TestGateway;
let url: string;
beforeAll(async () => {
  files = await createTestCertificates();
  ca = await files.make("gateway");
  gateway = await startTestGateway({ tlsCert: files.certFile("gateway"), tlsKey: files.keyFile("gateway") });
  url = `https://127.0.0.1:${gateway.port}`;
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await files[Symbol.asyncDispose]();
});

async function namesStored(): Promise<string[]> {
  return (await gateway.events()).map(({ event }) => event);
}

function peerNameOf(socket: tls.TLSSocket): string {
  return String(socket.getPeerCertificate().subject.CN);
}

describe("the gateway with a certificate", () => {
  it.each(["--http1.1", "--http2"])("takes events from curl %s", async (version) => {
    const body = [
      "--data",
      `{"event_type":"curl${version}","source":"s","created_at":"2026-09-20T12:00:00Z"}`,
      "--header",
      "content-type: application/json",
    ];
    const told = ["--silent", "--write-out", " %{http_code} %{http_version}"];
    const { stdout } = await run("curl", [
      version,
      "--cacert",
      files.certFile("gateway"),
      ...told,
      ...body,
      `${url}/events`,
    ]);
    expect(stdout).toMatch(version === "--http2" ? / 200 2$/ : / 200 1\.1$/);
    expect(await namesStored()).toContain(`curl${version}`);
  });

  it.each([
    [
      "Connect over HTTP/1.1",
      "connect1",
      () => createConnectTransport({ baseUrl: url, httpVersion: "1.1", nodeOptions: { ca } }),
    ],
    [
      "Connect over HTTP/2",
      "connect2",
      () => createConnectTransport({ baseUrl: url, httpVersion: "2", nodeOptions: { ca } }),
    ],
    ["gRPC", "grpc", () => createGrpcTransport({ baseUrl: url, nodeOptions: { ca } })],
  ])("takes events by %s", async (_name, event, createTransport) => {
    const client = createClient(EventService, createTransport());
    expect(await client.publish({ events: [{ event, distinctId: "u" }] })).toMatchObject({ accepted: 1 });
    expect(await namesStored()).toContain(event);
  });

  it("speaks no HTTP without TLS, and stays", async () => {
    await expect(fetch(`http://127.0.0.1:${gateway.port}/healthz`)).rejects.toThrow("fetch failed");
    const session = http2.connect(url, { ca });
    await once(session, "connect");
    session.destroy();
  });

  it("takes a client that knows nothing of ALPN for one of HTTP/1.1", async () => {
    const socket = tls.connect({ port: gateway.port, host: "127.0.0.1", ca });
    await once(socket, "secureConnect");
    socket.end("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    const answer = Buffer.concat((await Array.fromAsync(socket)) as Buffer[]).toString();
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("shows a new certificate after SIGHUP while what is connected goes on", async () => {
    const served = await files.make("rotated");
    const rotating = await startTestGateway({ tlsCert: files.certFile("rotated"), tlsKey: files.keyFile("rotated") });
    await using _stopped = rotating;
    const at = `https://127.0.0.1:${rotating.port}`;
    const old = http2.connect(at, { ca: served });
    await once(old, "connect");
    const next = await files.make("next");
    await files.replace("rotated", "next");
    process.emit("SIGHUP");
    await vi.waitFor(async () => {
      const fresh = http2.connect(at, { ca: next });
      fresh.on("error", () => {}); // The old certificate is still shown: the wait goes on.
      try {
        await once(fresh, "connect");
        expect(peerNameOf(fresh.socket as tls.TLSSocket)).toBe("next");
      } finally {
        fresh.destroy();
      }
    }, WAIT);
    const [head] = (await once(old.request({ ":path": "/healthz" }), "response")) as [http2.IncomingHttpHeaders];
    expect(head[":status"]).toBe(200);
    expect(rotating.lines.join("")).toContain("new TLS certificate");
    old.destroy();
  });

  it("stops at once although a connection has never begun its handshake", async () => {
    const pair = { tlsCert: files.certFile("gateway"), tlsKey: files.keyFile("gateway") };
    await using other = await startTestGateway({ ...pair, stopTimeout: 60_000 });
    const silent = net.connect(other.port, "127.0.0.1");
    silent.on("error", () => {}); // It is cut off, as it may be.
    await once(silent, "connect");
    await other.stop();
    silent.destroy();
  });

  it("is refused in settings with half a pair, as stats are", () => {
    for (const [schema, more] of [
      [gatewaySchema, {}],
      [statsSchema, {}],
    ] as const) {
      const env = { HOST: "127.0.0.1", KAFKA_BROKERS: "127.0.0.1:9", TLS_CERT: "/x.crt", ...more };
      const outcome = parseConfig(schema, { argv: [], env, command: "test", summary: "" });
      expect(outcome).toMatchObject({ kind: "faults", text: expect.stringContaining("both TLS_CERT and TLS_KEY") });
    }
  });
});

it("stats are served under the same settings", async () => {
  const pair = { tlsCert: files.certFile("gateway"), tlsKey: files.keyFile("gateway") };
  await using stats = await startTestStats(createMemoryWarehouse(), pair);
  const request = https.get({ port: stats.port, host: "127.0.0.1", path: "/healthz", ca });
  const [response] = (await once(request, "response")) as [{ statusCode: number; resume(): void }];
  response.resume();
  expect(response.statusCode).toBe(200);
});

describe("clients", () => {
  it("import trusts what TLS_CA names, and nothing unknown without it", async () => {
    const rows = files.certFile("rows.ndjson");
    await writeFile(rows, '{"a":1}\n');
    const args = ["import", rows, "--event", "imported", "--format", "ndjson", "--url", url];
    await using refused = spawnMillrace(args);
    await vi.waitUntil(() => refused.lines.some((line) => line.includes("self-signed certificate")), WAIT);
    await using done = spawnMillrace([...args, "--tls-ca", files.certFile("gateway")]);
    expect([await done.exited, done.lines.join("\n")]).toEqual([0, expect.stringContaining("imported 1, refused 0")]);
    expect(await namesStored()).toContain("imported");
  });

  it("an invalid file of authorities is a fault of the settings", () => {
    const env = { CLICKHOUSE_CA: files.keyFile("gateway"), KAFKA_SSL_CA: "/nowhere.pem" };
    const schema = z.object({ ...clickhouseSettings, ...kafkaSettings });
    const outcome = parseConfig(schema, { argv: [], env, command: "test", summary: "" });
    if (outcome.kind !== "faults") throw new Error(`${outcome.kind} instead of faults`);
    expect(outcome.faults).toEqual([
      expect.stringMatching(/^CLICKHOUSE_CA=.*: the file has no certificate in PEM form$/),
      expect.stringMatching(/^KAFKA_SSL_CA=.*: ENOENT/),
    ]);
  });

  it("ClickHouse over https is trusted by CLICKHOUSE_CA alone", async () => {
    const server = https.createServer(await pair(), (request, response) => {
      request.resume();
      request.on("end", () => response.end());
    });
    await using at = await listening(server);
    const answers = async (env: Record<string, string>) => {
      const warehouse = createClickHouseWarehouse(
        clickhouseOptions(
          configOf(z.object(clickhouseSettings), { CLICKHOUSE_URL: `https://127.0.0.1:${at.port}`, ...env }),
        ),
      );
      await using _closed = { [Symbol.asyncDispose]: () => warehouse[Symbol.asyncDispose]() };
      await warehouse.ping();
    };
    await expect(answers({})).rejects.toThrow("DEPTH_ZERO_SELF_SIGNED_CERT");
    await answers({ CLICKHOUSE_CA: files.certFile("gateway") });
  });

  it("Kafka brokers are trusted by KAFKA_SSL_CA, which alone means TLS", async () => {
    const handshakes = { done: 0, failed: 0 };
    const server = tls.createServer(await pair(), (socket) => {
      handshakes.done++;
      socket.on("error", () => {}); // No broker is behind it: what it says does not matter.
      socket.destroy();
    });
    server.on("tlsClientError", () => handshakes.failed++);
    await using at = await listening(server);
    const logger = createLogger({ level: "silent", service: "test" });
    const ask = async (env: Record<string, string>) => {
      const config = configOf(z.object(kafkaSettings), { KAFKA_BROKERS: `127.0.0.1:${at.port}`, ...env });
      const log = createKafkaLog(kafkaOptions(config, "test", logger));
      await expect(log.check()).rejects.toThrow();
      await log[Symbol.asyncDispose]();
    };
    await ask({ KAFKA_SSL: "true" });
    expect(handshakes.done).toBe(0);
    expect(handshakes.failed).toBeGreaterThan(0);
    await ask({ KAFKA_SSL_CA: files.certFile("gateway") });
    expect(handshakes.done).toBeGreaterThan(0);
  });
});

async function pair() {
  return { cert: ca, key: await readFile(files.keyFile("gateway")) };
}

async function listening(server: net.Server): Promise<AsyncDisposable & { port: number }> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: close };
}

function configOf<S extends z.ZodObject>(schema: S, env: Record<string, string>): z.output<S> {
  const outcome = parseConfig(schema, { argv: [], env, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config;
}
