// The cluster under test: real Kafka, the ClickHouse endpoint, two gateways and three consumers, each a process of its own,
// with a proxy on every way between them.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { clockEnvironment } from "../test/kit/clock.ts";
import { freePort } from "../test/kit/free-port.ts";
import { kafkaForTests, type TestBroker } from "../test/kit/kafka.ts";
import { startKafkaCluster, type TestKafkaCluster } from "../test/kit/kafka-cluster.ts";
import { onlyChildOf } from "../test/kit/os-processes.ts";
import { spawnMillrace } from "../test/kit/processes.ts";
import { createService, type Service } from "../test/kit/service.ts";
import { startTcpProxy, type TcpProxy } from "../test/kit/tcp-proxy.ts";
import { type ClickHouseProxy, startClickHouseProxy } from "./clickhouse-proxy.ts";
import { API_KEYS } from "./event-source.ts";
import { CONSUMERS, GATEWAYS, TOKENS_REMEMBERED } from "./kinds.ts";

export interface Cluster extends AsyncDisposable {
  /** Of a run with one broker, and so is the next. */
  broker: TestBroker;
  /** Between the broker and everybody else. */
  brokerLink: TcpProxy;
  /** Of a run with three; gateways log in with a password, consumers with a certificate. */
  kafka: TestKafkaCluster | undefined;
  /** Settings of the gateways' login, at their next start. */
  brokerLogin: Record<string, string>;
  clickhouse: Service;
  /** The process that owns the tables; the endpoint's child. */
  enginePid(): Promise<number>;
  /** Between the consumers' own links and `clickhouseProxy`. */
  clickhouseLink: TcpProxy;
  /** Between a consumer, by its index, and `clickhouseLink`. */
  consumerLinks: readonly TcpProxy[];
  /** Between `clickhouseLink` and ClickHouse. */
  clickhouseProxy: ClickHouseProxy;
  gateways: readonly Service[];
  /** Between a gateway, by its index, and the callers. */
  gatewayLinks: readonly TcpProxy[];
  consumers: readonly Service[];
  /** One more consumer, not running. */
  spareConsumer: Service;
  /** By the name of a gateway or consumer: the file that sets its clock. */
  clockFile(name: string): string;
  /** Through `brokerLink`. */
  log: OpenLog;
  kafkaAddress: string;
  /** Past the proxies. */
  warehouse: Warehouse;
  /** Runs a command that ends by itself, past ClickHouse's proxies. */
  run(args: readonly string[]): Promise<{ exitCode: number | null; output: string }>;
  /** What each process printed, by a name for each of its lives. */
  logs(): { name: string; lines: readonly string[] }[];
  /** Accounts of processes that ended and were not told to. */
  readonly endedAlone: readonly string[];
}

export const PARTITIONS = 6;
const SESSION_TIMEOUT = "6s";

/** Resolves when events can be sent and will be stored. */
export async function startCluster(brokers: 1 | 3 = 1): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "millrace-chaos-"));
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  const endedAlone: string[] = [];
  const onEnded = (account: string) => void endedAlone.push(account);

  const kafka = brokers === 3 ? stack.use(await startKafkaCluster({ peerLinks: true })) : undefined;
  const { broker, brokerLink } = kafka === undefined ? await startBroker(stack) : noBroker();
  const addresses = kafka === undefined ? [`127.0.0.1:${brokerLink.port}`] : kafka.peers;
  const kafkaAddress = addresses.join(",");
  const brokerLogin = kafka?.env("scram-sha-512") ?? {};
  const certificate = kafka?.env("certificate") ?? {};
  const { clickhouse, enginePid, url } = await startClickHouse(stack, directory, onEnded);
  const clickhouseProxy = stack.use(await startClickHouseProxy({ target: () => url }));
  const clickhouseLink = stack.use(await startTcpProxy({ targetPort: Number(new URL(clickhouseProxy.url).port) }));

  const env = {
    KAFKA_BROKERS: kafkaAddress,
    KAFKA_PARTITIONS: String(PARTITIONS),
    KAFKA_SESSION_TIMEOUT: SESSION_TIMEOUT,
    HOST: "127.0.0.1",
  };
  const run = async (args: readonly string[]) => {
    await using command = spawnMillrace(args, { ...env, ...certificate, CLICKHOUSE_URL: url });
    const exitCode = await command.exited;
    return { exitCode, output: command.lines.join("\n") };
  };
  const migrated = await run(["migrate"]);
  if (migrated.exitCode !== 0) throw new Error(`millrace migrate ended with ${migrated.exitCode}:\n${migrated.output}`);
  const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "millrace" });
  stack.use(warehouse);
  for (const table of ["events_raw", "points", "log_outcomes", "dead_letters"]) {
    const window = `non_replicated_deduplication_window = ${TOKENS_REMEMBERED}`;
    await warehouse.command(`ALTER TABLE ${table} MODIFY SETTING ${window}`);
  }

  const clockFile = (name: string) => join(directory, `clock-${name}`);
  const ownEnv = (name: string) => ({ ...env, ...clockEnvironment(clockFile(name)) });
  const consumerLinks: TcpProxy[] = [];
  for (const _ of CONSUMERS) consumerLinks.push(stack.use(await startTcpProxy({ targetPort: clickhouseLink.port })));
  const services = createServices(
    stack,
    ownEnv,
    { brokerLogin, certificate },
    [...consumerLinks, clickhouseLink],
    onEnded,
  );
  const { gateways, consumers, spareConsumer } = services;
  await Promise.all([...gateways, ...consumers].map((service) => service.start()));
  await Promise.all(consumers.map((consumer) => consumer.process.logged("partition assigned")));
  const gatewayLinks: TcpProxy[] = [];
  for (const gateway of gateways) {
    gatewayLinks.push(stack.use(await startTcpProxy({ targetPort: () => Number(gateway.ready.port) })));
  }

  const log = createKafkaLog({ brokers: addresses, clientId: "chaos", logger: pino({ level: "silent" }) });
  stack.use(log);
  const all = [clickhouse, ...gateways, ...consumers, spareConsumer];
  const owned = stack.move();
  return {
    broker,
    brokerLink,
    kafka,
    brokerLogin,
    clickhouse,
    enginePid,
    clickhouseLink,
    consumerLinks,
    clickhouseProxy,
    ...services,
    gatewayLinks,
    clockFile,
    log,
    kafkaAddress,
    warehouse,
    run,
    logs: () => all.flatMap(({ name, lives }) => lives.map(({ lines }, i) => ({ name: `${name}.${i + 1}`, lines }))),
    endedAlone,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** None of them runs yet. */
function createServices(
  stack: AsyncDisposableStack,
  ownEnv: (name: string) => Record<string, string>,
  logins: { brokerLogin: Record<string, string>; certificate: Record<string, string> },
  toClickHouse: readonly TcpProxy[],
  onEnded: (account: string) => void,
): Pick<Cluster, "gateways" | "consumers" | "spareConsumer"> {
  const makeGateway = (name: string) => {
    const keys = { PUBLIC_API_KEYS: API_KEYS.public, SECRET_API_KEYS: API_KEYS.secret };
    const env = () => ({ ...ownEnv(name), ...logins.brokerLogin, ...keys, PORT: "0" });
    return stack.use(createService({ name, command: "gateway", env, readyMessage: "gateway listening", onEnded }));
  };
  const makeConsumer = (name: string, index: number) => {
    const clickhouseUrl = `http://127.0.0.1:${toClickHouse[index]?.port}`;
    // Debug lines name the batches: what a consumer did is to be found out afterwards.
    const env = {
      ...ownEnv(name),
      ...logins.certificate,
      CONSUMER_PORT: "0",
      CLICKHOUSE_URL: clickhouseUrl,
      LOG_LEVEL: "debug",
    };
    const readyMessage = "health and metrics are served";
    return stack.use(createService({ name, command: "consumer", env, readyMessage, onEnded }));
  };
  return {
    gateways: GATEWAYS.map(makeGateway),
    consumers: CONSUMERS.map(makeConsumer),
    spareConsumer: makeConsumer(`consumer-${CONSUMERS.length + 1}`, CONSUMERS.length),
  };
}

/** Faults of one broker are not planned for three. */
function noBroker(): Pick<Cluster, "broker" | "brokerLink"> {
  const refuse = () => {
    throw new Error("a run with three brokers has no single one");
  };
  const none = new Proxy({}, { get: refuse });
  return { broker: none as TestBroker, brokerLink: none as TcpProxy };
}

/** The proxy first: the broker must tell its clients the proxy's port. */
async function startBroker(stack: AsyncDisposableStack): Promise<Pick<Cluster, "broker" | "brokerLink">> {
  const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
  if (!kafka.available) throw new Error(kafka.reason);
  if (kafka.kind === "environment") throw new Error("a broker that is shared cannot be killed");
  let port = 0;
  const brokerLink = stack.use(await startTcpProxy({ targetPort: () => port }));
  const broker = stack.use(await kafka.start({ advertisedPort: brokerLink.port }));
  port = portOf(broker);
  return { broker, brokerLink };
}

export function portOf(broker: TestBroker): number {
  return Number(broker.brokers[0]?.split(":")[1]);
}

async function startClickHouse(
  stack: AsyncDisposableStack,
  dataDir: string,
  onEnded: (account: string) => void,
): Promise<Pick<Cluster, "clickhouse" | "enginePid"> & { url: string }> {
  // One port for all of its lives, since that is what its clients know.
  const port = await freePort();
  const env = { HOST: "127.0.0.1", CLICKHOUSE_HTTP_PORT: String(port), DATA_DIR: dataDir };
  const clickhouse = createService({
    name: "clickhouse",
    command: "clickhouse",
    env,
    readyMessage: "ClickHouse endpoint is ready",
    onEnded,
  });
  // Told to stop rather than killed: its child would outlive it by some seconds, in a directory that is being removed.
  stack.defer(async () => void (await clickhouse.stop("SIGTERM")));
  await clickhouse.start();
  return { clickhouse, enginePid: () => onlyChildOf(clickhouse.process.pid), url: `http://127.0.0.1:${port}` };
}
