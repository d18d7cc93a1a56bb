// A real Kafka broker for tests and benchmarks: Apache Kafka from Maven Central on a JDK, or Redpanda in a container.
// Run as a script it keeps one broker in the foreground and prints its address: node test/kit/kafka.ts

import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./free-port.ts";
import { patience } from "./patience.ts";

const KAFKA_VERSION = "4.1.0";
const REDPANDA_IMAGE = "docker.io/redpandadata/redpanda:v25.3.1";
const JARS = fileURLToPath(new URL(`../../.cache/kafka/${KAFKA_VERSION}/`, import.meta.url));
/** What Java made of the jars, for the version of Java that is here. */
const CLASSES = `${JARS}broker.jsa`;
const POM = fileURLToPath(new URL("kafka-pom.xml", import.meta.url));
const READY_TIMEOUT_MS = patience(60_000);

/** One broker, listening on a free port of 127.0.0.1. It dies with the process that started it. */
export interface TestBroker extends AsyncDisposable {
  /** Its own address, whatever it advertises. */
  readonly brokers: string[];
  kill9(): Promise<void>;
  /** Starts it again on the same port and data; resolves when it answers. */
  restart(): Promise<void>;
  /** Freezes it: connections stay open and nothing answers. */
  pause(): void;
  resume(): void;
}

export interface BrokerOptions {
  /** Port of 127.0.0.1 that clients are told to connect to: that of a proxy before the broker. Default its own. */
  advertisedPort?: number;
}

export type KafkaForTests =
  | { available: true; kind: "environment"; start(): Promise<AsyncDisposable & { readonly brokers: string[] }> }
  | { available: true; kind: "apache" | "redpanda"; start(options?: BrokerOptions): Promise<TestBroker> }
  | { available: false; reason: string };

/** Which broker tests can have here. KAFKA_BROKERS wins; such a broker is shared and cannot be killed or frozen. */
export function kafkaForTests(env: NodeJS.ProcessEnv = process.env): KafkaForTests {
  const brokers = (env.KAFKA_BROKERS ?? "").split(",").filter((broker) => broker !== "");
  if (brokers.length > 0) {
    return {
      available: true,
      kind: "environment",
      start: async () => ({ brokers, [Symbol.asyncDispose]: async () => undefined }),
    };
  }
  if (runs("java", ["-version"]) && (hasJars() || runs("mvn", ["--version"]))) {
    return { available: true, kind: "apache", start: startKafka };
  }
  if (runs("docker", ["info"])) return { available: true, kind: "redpanda", start: startRedpanda };
  const reason =
    "no Kafka for tests: install a JDK and Maven (apt-get install openjdk-17-jdk-headless maven), " +
    "or Docker, or set KAFKA_BROKERS=host:port";
  process.stderr.write(`\n*** KAFKA TESTS CANNOT RUN: ${reason} ***\n\n`);
  return { available: false, reason };
}

/** Apache Kafka in KRaft mode, one combined broker and controller. The jars are fetched on first use (54 MB). */
export async function startKafka({ advertisedPort }: BrokerOptions = {}): Promise<TestBroker> {
  await fetchJars();
  if (!existsSync(CLASSES)) await archiveClasses();
  const { directory, config, port } = await formatKafka(advertisedPort);
  const java = ["java", ...javaOptions(`-XX:SharedArchiveFile=${CLASSES}`)].map((part) => `'${part}'`).join(" ");
  const logFile = join(directory, "kafka.log");
  return runBroker(port, {
    start: () => spawnGuarded(`${java} kafka.Kafka '${config}' >'${logFile}' 2>&1`, `rm -rf '${directory}'`),
    signal: (child, signal) => process.kill(child.pid, signal),
    remove: () => rm(directory, { recursive: true, force: true }),
    log: async () => (await readFile(logFile, "utf8")).slice(-2_000),
  });
}

/** A broker that ends in peace once it answers leaves its loaded classes: each later start takes half of the time. */
async function archiveClasses(): Promise<void> {
  const { directory, config, port } = await formatKafka();
  const archive = `${CLASSES}.${process.pid}`;
  const java = spawn("java", [...javaOptions(`-XX:ArchiveClassesAtExit=${archive}`), "kafka.Kafka", config], {
    stdio: "ignore",
  });
  const exited = new Promise<void>((resolve) => java.once("exit", () => resolve()));
  try {
    await answersMetadata(port, exited);
    java.kill("SIGTERM");
    await exited;
    await rename(archive, CLASSES);
  } finally {
    java.kill("SIGKILL");
    await rm(directory, { recursive: true, force: true });
  }
}

async function formatKafka(advertisedPort?: number): Promise<{ directory: string; config: string; port: number }> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-kafka-"));
  const [port, controllerPort] = [await freePort(), await freePort()];
  const config = join(directory, "server.properties");
  await writeFile(config, serverProperties(directory, port, controllerPort, advertisedPort ?? port));
  // 16 bytes in base64url: StorageTool would take another start of Java to tell some.
  const clusterId = randomBytes(16).toString("base64url");
  const format = ["kafka.tools.StorageTool", "format", "-t", clusterId, "-c", config];
  execFileSync("java", [...javaOptions(`-XX:SharedArchiveFile=${CLASSES}`), ...format], { stdio: "ignore" });
  return { directory, config, port };
}

function javaOptions(classes: string): string[] {
  // Most tests end before the second compiler has paid for itself: a quarter less of their time.
  const jit = process.env.VITEST ? ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] : [];
  const log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
  return [...jit, classes, "-Xms256m", "-Xmx768m", log, "-cp", `${JARS}*`];
}

/** Runs one of Kafka's own command-line tools and returns what it printed: the reference for what we write and read. */
export function runKafkaTool(mainClass: string, args: string[], input = ""): string {
  const quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off";
  const stdio: StdioOptions = ["pipe", "pipe", "ignore"];
  return execFileSync("java", [quiet, "-cp", `${JARS}*`, mainClass, ...args], {
    input,
    stdio,
    timeout: patience(30_000),
  }).toString();
}

async function startRedpanda({ advertisedPort }: BrokerOptions = {}): Promise<TestBroker> {
  const port = await freePort();
  const name = `millrace-redpanda-${process.pid}-${port}`;
  const docker = (...args: string[]) => execFileSync("docker", args, { stdio: "ignore" });
  const flags = "--mode dev-container --smp 1 --memory 1G --set redpanda.auto_create_topics_enabled=false";
  docker(
    "create",
    "--name",
    name,
    "-p",
    `127.0.0.1:${port}:${port}`,
    REDPANDA_IMAGE,
    "redpanda",
    "start",
    ...flags.split(" "),
    `--kafka-addr=0.0.0.0:${port}`,
    `--advertise-kafka-addr=127.0.0.1:${advertisedPort ?? port}`,
  );
  const signals = { SIGKILL: "kill", SIGSTOP: "pause", SIGCONT: "unpause" } as const;
  return runBroker(port, {
    start: () => spawnGuarded(`docker start -a ${name} >/dev/null 2>&1`, `docker rm -f ${name} >/dev/null 2>&1`),
    signal: (_child, signal) => docker(signals[signal], name),
    remove: async () => void docker("rm", "-f", name),
    log: async () => execFileSync("docker", ["logs", "--tail", "20", name]).toString(),
  });
}

interface BrokerControl {
  start(): Promise<GuardedChild>;
  signal(child: GuardedChild, signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
  remove(): Promise<void>;
  /** The end of what it printed, for the message when it does not start. */
  log(): Promise<string>;
}

async function runBroker(port: number, control: BrokerControl): Promise<TestBroker> {
  let child: GuardedChild | undefined = await control.start();
  const kill9 = async () => {
    const dying = child;
    child = undefined;
    if (dying === undefined) return;
    control.signal(dying, "SIGKILL");
    await dying.ended();
  };
  const signal = (name: "SIGSTOP" | "SIGCONT") => {
    if (child === undefined) throw new Error(`the broker does not run: no ${name}`);
    control.signal(child, name);
  };
  const dispose = async () => {
    await kill9();
    await control.remove();
  };
  try {
    await answersMetadata(port, child.exited);
  } catch (error) {
    const log = await control.log();
    await dispose();
    throw new Error(`the Kafka broker did not start: ${log}`, { cause: error });
  }
  return {
    brokers: [`127.0.0.1:${port}`],
    kill9,
    async restart() {
      await kill9();
      child = await control.start();
      await answersMetadata(port, child.exited);
    },
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    [Symbol.asyncDispose]: dispose,
  };
}

interface GuardedChild {
  pid: number;
  exited: Promise<void>;
  /** Waits for the exit and keeps this process alive for it, which `exited` does not. */
  ended(): Promise<void>;
}

/**
 * Runs `command` under a shell that kills it when this process ends, however it ends: the shell holds the other end of
 * a pipe, and a pipe closes even when its owner is killed with -9.
 */
async function spawnGuarded(command: string, cleanup = ":"): Promise<GuardedChild> {
  const script = `exec 3<&0; exec 4>&1; ${command} 3<&- 4>&- & pid=$!; echo "$pid"; exec 1>/dev/null
    (cat <&3 >/dev/null; kill -9 "$pid"; ${cleanup}) 4>&- & guard=$!; wait "$pid"; kill "$guard"`;
  // "exec" inside the background list makes the printed pid the command's own and not that of a subshell around it.
  const shell: ChildProcess = spawn("sh", ["-c", script.replace(command, `exec ${command}`)], {
    stdio: ["pipe", "pipe", "ignore"],
    detached: true,
  });
  shell.unref();
  const pid = await new Promise<number>((resolve, reject) => {
    shell.once("error", reject);
    shell.stdout?.once("data", (line: Buffer) => resolve(Number(line.toString())));
  });
  const exited = new Promise<void>((resolve) => shell.once("exit", () => resolve()));
  void exited.then(() => shell.stdin?.destroy());
  const ended = () => {
    if (shell.exitCode === null && shell.signalCode === null) shell.ref();
    return exited;
  };
  return { pid, exited, ended };
}

/** Resolves when the broker names itself in a metadata answer: the port is open long before that. */
async function answersMetadata(port: number, exited: Promise<void>): Promise<void> {
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!gone && performance.now() < deadline) {
    if (await askMetadata(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(gone ? "the Kafka broker ended while starting" : `no Kafka metadata after ${READY_TIMEOUT_MS} ms`);
}

/** Whether a broker behind this port of 127.0.0.1 answers a metadata request within two seconds. */
export function askMetadata(port: number): Promise<boolean> {
  // Metadata request, version 1, for no topics: size, key 3, version 1, correlation 1, null client id, empty array.
  const request = Buffer.from("0000000e0003000100000001ffff00000000", "hex");
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    const done = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    let seen = Buffer.alloc(0);
    socket.setTimeout(2_000, () => done(false));
    socket.on("error", () => done(false)); // Not up yet: the caller asks again.
    socket.on("end", () => done(false));
    socket.on("data", (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      if (seen.length >= 12) done(seen.readInt32BE(8) > 0);
    });
  });
}

async function fetchJars(): Promise<void> {
  if (hasJars()) return;
  // Fetched beside and renamed, so that a run that is interrupted or in parallel never leaves half a directory.
  const staging = `${JARS.slice(0, -1)}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  execFileSync("mvn", ["-q", "-B", "-f", POM, "dependency:copy-dependencies", `-DoutputDirectory=${staging}`], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await rename(staging, JARS).catch(async (error: unknown) => {
    await rm(staging, { recursive: true, force: true });
    if (!hasJars()) throw error; // Otherwise another process was first.
  });
}

function hasJars(): boolean {
  return existsSync(JARS) && readdirSync(JARS).some((name) => name.startsWith("kafka_"));
}

function runs(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: "ignore", timeout: 10_000 });
    return true;
  } catch {
    return false; // Not installed, or its daemon does not answer: either way it is of no use here.
  }
}

function serverProperties(directory: string, port: number, controllerPort: number, advertisedPort: number): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${advertisedPort}
log.dirs=${join(directory, "data")}
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=250
log.retention.ms=-1
`;
}

if (import.meta.main) {
  const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
  if (!kafka.available) process.exit(1);
  await using broker = await kafka.start();
  process.stdout.write(`${broker.brokers.join(",")}\n`);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}
