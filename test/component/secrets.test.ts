// No secret reaches a terminal or a log: every command runs at its most talkative, is told marked secrets by every way
// there is, and everything that it prints is searched for them.
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { settingInfo } from "#lib/config/settings.ts";
import { envName, flagName } from "#lib/config/sources.ts";
import { createLogger } from "#lib/process/log.ts";
import { doctorSchema } from "../../commands/doctor/config.ts";
import { verifySchema } from "../../commands/verify/config.ts";
import { consumerSchema } from "../../services/consumer/config.ts";
import { gatewaySchema } from "../../services/gateway/config.ts";
import { relaySchema } from "../../services/relay/config.ts";
import { standaloneSchema } from "../../services/standalone/config.ts";
import { statsSchema } from "../../services/stats/config.ts";
import { callH1 } from "../kit/http-calls.ts";
import { FREE_PORTS, type Spawned, spawnMillrace } from "../kit/processes.ts";

const MARK = "MARKED-SECRET";
const SCHEMAS = [gatewaySchema, consumerSchema, relaySchema, statsSchema, standaloneSchema, doctorSchema, verifySchema];
const SHAPE: Record<string, z.ZodType> = Object.assign({}, ...SCHEMAS.map((schema) => schema.shape));
const SECRETS = Object.keys(SHAPE).filter((name) => settingInfo.get(SHAPE[name] as z.ZodType)?.secret === true);

/** One secret for each setting; also what OpenTelemetry's own variables hold. */
const secretEnv: Record<string, string> = {
  ...Object.fromEntries(SECRETS.map((name) => [envName(name), `${MARK}-${name}`])),
  MILLRACE_TOKEN: `${MARK}-agent`,
  OTEL_EXPORTER_OTLP_HEADERS: `authorization=${MARK}-otel`,
};

let directory: string;
/** Takes connections and hangs up: no broker, no ClickHouse, no collector of traces, but somebody to talk to. */
let nobody: net.Server;
let away: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-secrets-"));
  nobody = net.createServer((socket) => {
    socket.on("error", () => {}); // Resets are its peers' business.
    socket.once("data", () => socket.destroy());
  });
  nobody.listen(0, "127.0.0.1");
  await once(nobody, "listening");
  away = `127.0.0.1:${(nobody.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await new Promise((resolve) => nobody.close(resolve));
  await rm(directory, { recursive: true, force: true });
});

function expectSilence(process: Spawned): void {
  expect(process.lines.length).toBeGreaterThan(0);
  expect(process.lines.filter((line) => line.includes(MARK))).toEqual([]);
}

describe("settings", () => {
  it("with a name that sounds like one are declared secret, apart from the paths of files", () => {
    const sounding = Object.keys(SHAPE).filter((name) => /password|secret|token|keys?$/i.test(name));
    const files = ["tlsKey", "relayTlsKey", "kafkaSslKey", "kafkaOauthTokenFile", "kafkaOauthTokenUrl"];
    expect(sounding.filter((name) => !files.includes(name)).sort()).toEqual([...SECRETS].sort());
  });

  it("are hidden when a whole configuration is logged", () => {
    const lines: string[] = [];
    const logger = createLogger({ level: "info", service: "test", stream: { write: (line) => lines.push(line) } });
    const config = Object.fromEntries(SECRETS.map((name) => [name, MARK]));
    logger.info({ config }, "settings");
    logger.info(config, "settings");
    expect(lines).toHaveLength(2);
    expect(lines.join("")).not.toContain(MARK);
  });

  it.each(SCHEMAS.map((schema, i) => [i, schema] as const))(
    "are not told with the faults of others (schema %i)",
    (_, schema) => {
      const content = `public-api-keys: {a: ${MARK}}\nkafka-sasl-password: [${MARK}]\nrelay-token: "${MARK} 2"\n`;
      const env = {
        ...secretEnv,
        CLICKHOUSE_URL: `http://u:${MARK}@h`,
        KAFKA_BROKERS: away,
        PORT: "x",
        CONFIG_FILE: "f",
      };
      const argv = [...SECRETS, "notASetting"].map((name) => `${flagName(name)}=${MARK}`);
      for (const given of [
        { argv: [], env: { CONFIG_FILE: "f" } },
        { argv, env },
        { argv: [], env },
      ]) {
        const outcome = parseConfig<z.ZodObject>(schema, {
          ...given,
          command: "test",
          summary: "",
          readFile: () => content,
        });
        expect(outcome.kind === "faults" && outcome.text).not.toContain(MARK);
      }
    },
  );

  it("are left out by --print-config", async () => {
    await using run = spawnMillrace(["start", "--print-config"], secretEnv);
    expect(await run.exited).toBe(0);
    expectSilence(run);
  });
});

describe.concurrent("commands whose services are away", () => {
  const agent = ["agent", "--server", "127.0.0.1:1", "--id", "host"];
  /** With a line that each of them has printed once it has met the trouble. */
  const cases: [string[], RegExp][] = [
    [["gateway"], /listening/],
    [["consumer"], /Kafka|ClickHouse/],
    [["relay"], /listening/],
    [["stats"], /listening/],
    [agent, /not connected/],
    [["doctor"], /./],
    [["migrate"], /./],
    [["verify"], /./],
    [["dead-letters", "ls"], /./],
    [["relays", "ls"], /./],
  ];

  it.each(cases)("%j", async (args, trouble) => {
    const ports = { ...FREE_PORTS, RELAY_HTTP_PORT: "0", CONSUMER_PORT: "0", HOST: "127.0.0.1" };
    const services = {
      KAFKA_BROKERS: away,
      KAFKA_SSL: "false",
      KAFKA_SASL_MECHANISM: "plain",
      KAFKA_SASL_USERNAME: "u",
    };
    const urls = { CLICKHOUSE_URL: `http://${away}`, MILLRACE_URL: `http://${away}`, RELAY_HTTP_URL: `http://${away}` };
    const talkative = {
      LOG_LEVEL: "trace",
      MILLRACE_LOG_LEVEL: "trace",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://u:${MARK}@${away}`,
    };
    const env = {
      ...secretEnv,
      ...ports,
      ...services,
      ...urls,
      ...talkative,
      DOCTOR_TIMEOUT: "500ms",
      STOP_TIMEOUT: "0s",
    };
    await using run = spawnMillrace(args, env);
    await waitForLine(run, trouble);
    await run.stop("SIGTERM");
    expectSilence(run);
  });
});

async function waitForLine(run: Spawned, line: RegExp): Promise<void> {
  const gone = run.exited.then(() => true);
  while (!run.lines.some((each) => line.test(each))) {
    if (await Promise.race([gone, new Promise<false>((resolve) => setTimeout(resolve, 20, false))])) return;
  }
}

it("the standalone in use, by callers with right secrets and with wrong ones", async () => {
  const env = { ...secretEnv, ...FREE_PORTS, DATA_DIR: join(directory, "data"), LOG_LEVEL: "trace" };
  await using run = spawnMillrace(["start"], { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: `http://u:${MARK}@${away}` });
  const ports = await Promise.all(
    ["gateway listening", "stats listening", "relay listening"].map(async (message) =>
      Number((await run.logged(message)).port),
    ),
  );
  const [gateway = 0, stats = 0, relay = 0] = ports;
  const event = '{"event_type":"e","source":"s","created_at":"2026-09-20T12:00:00Z"}';
  const statuses: number[] = [];
  const call = async (...args: Parameters<typeof callH1>) => void statuses.push((await callH1(...args)).status);
  for (const key of [`${MARK}-publicApiKeys`, `${MARK}-wrong`]) {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const rpc = "/millrace.events.v1.EventService/Publish";
    await call(gateway, "/events", { body: event, headers });
    for (const body of [`{"api_key":"${key}","batch":[{"event":"e","distinct_id":"u"}]}`, "{"]) {
      for (const path of ["/events", "/batch/", rpc, "/admin/replay", `/nowhere?api_key=${key}`]) {
        await callH1(gateway, path, { body, headers });
      }
    }
  }
  for (const token of [`${MARK}-statsToken`, `${MARK}-wrong`]) {
    await call(stats, `/alerts?X-AUTH-TOKEN=${token}`, { method: "GET" });
    for (const path of ["/stats", "/alerts", "/relays", "/nowhere"]) {
      await callH1(stats, path, {
        method: "GET",
        headers: { "x-auth-token": token, authorization: `Bearer ${token}` },
      });
    }
  }
  for (const token of [`${MARK}-relayToken`, `${MARK}-wrong`]) {
    const socket = net.connect(relay, "127.0.0.1");
    await once(socket, "connect");
    socket.end(`id host ${token}\n`);
    await Array.fromAsync(socket);
  }
  expect(statuses).toEqual([200, 401, 200, 401]);
  expect(await run.stop("SIGTERM")).toBe(0);
  expectSilence(run);
});
