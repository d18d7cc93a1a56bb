// Apache Kafka's jars on the JDK that is here: fetched from Maven Central once, with what every start would do again kept
// beside them: the loaded classes, and storage as the format tool leaves it.

import { execFileSync, type StdioOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { freePort } from "./free-port.ts";
import { answersMetadata } from "./kafka-metadata.ts";
import { patience } from "./patience.ts";

const KAFKA_VERSION = "4.1.0";
const JARS = fileURLToPath(new URL(`../../.cache/kafka/${KAFKA_VERSION}/`, import.meta.url));
/** What Java made of the jars, for the version of Java that is here. */
const CLASSES = join(JARS, "broker.jsa");
/** An empty log directory, of another cluster. */
const FORMATTED = join(JARS, "formatted");
const META = "meta.properties";
const POM = fileURLToPath(new URL("kafka-pom.xml", import.meta.url));
const TOOL_MS_MAX = patience(30_000);

export interface StorageOptions {
  /** Port of 127.0.0.1 that clients are told to connect to: that of a proxy before the broker. Default its own. */
  advertisedPort?: number;
  /** Apache's only: lines of server.properties for these ports, which win over ours. */
  properties?(ports: { port: number; controllerPort: number }): string;
  /** Apache's only: arguments for a format of its own, such as --add-scram, which costs one more start of Java. */
  format?: readonly string[];
}

/** A directory that a broker can be started on, and where it will listen. */
export interface KafkaStorage {
  directory: string;
  config: string;
  port: number;
}

/** True when a broker needs Java alone, and no Maven. */
export function hasJars(): boolean {
  return existsSync(JARS) && readdirSync(JARS).some((name) => name.startsWith("kafka_"));
}

/** A new cluster's storage. The first call on a machine fetches the jars (54 MB) and starts Java twice. */
export async function createStorage(options: StorageOptions = {}): Promise<KafkaStorage> {
  await fetchJars();
  if (!existsSync(FORMATTED)) await formatOnce();
  if (!existsSync(CLASSES)) await archiveClasses();
  return copyStorage(options);
}

/** The command that runs a broker on the storage, for a shell. */
export function brokerCommand({ config }: KafkaStorage, own: readonly string[] = []): string {
  return ["java", ...javaOptions(), ...own, "kafka.Kafka", config].map((part) => `'${part}'`).join(" ");
}

/** Runs one of Kafka's own command-line tools and returns what it printed: the reference for what we write and read. */
export function runKafkaTool(mainClass: string, args: string[], input = ""): string {
  const stdio: StdioOptions = ["pipe", "pipe", "ignore"];
  return execFileSync("java", [...javaOptions("off"), mainClass, ...args], {
    input,
    stdio,
    timeout: TOOL_MS_MAX,
  }).toString();
}

async function copyStorage(options: StorageOptions = {}): Promise<KafkaStorage> {
  const { directory, config, port, data } = await configure(options);
  if (options.format !== undefined) {
    await format(config, options.format);
    return { directory, config, port };
  }
  await mkdir(data);
  for (const name of await readdir(FORMATTED)) await copyFile(join(FORMATTED, name), join(data, name));
  const meta = await readFile(join(FORMATTED, META), "utf8");
  // A cluster of its own: what is told apart by the cluster's id must not be taken for that of another test.
  await writeFile(join(data, META), meta.replace(/^cluster\.id=.*$/m, `cluster.id=${newClusterId()}`));
  return { directory, config, port };
}

async function configure(options: StorageOptions = {}): Promise<KafkaStorage & { data: string }> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-kafka-"));
  const [port, controllerPort] = [await freePort(), await freePort()];
  const config = join(directory, "server.properties");
  const data = join(directory, "data");
  const common = serverProperties(data, port, controllerPort, options.advertisedPort ?? port);
  // Of a name that comes twice the later value counts.
  await writeFile(config, common + (options.properties?.({ port, controllerPort }) ?? ""));
  return { directory, config, port, data };
}

async function formatOnce(): Promise<void> {
  const { directory, config, data } = await configure();
  try {
    await format(config);
    const staging = `${FORMATTED}.${process.pid}`;
    await mkdir(staging, { recursive: true });
    for (const name of await readdir(data)) await copyFile(join(data, name), join(staging, name));
    await moveInto(staging, FORMATTED);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function format(config: string, own: readonly string[] = []): Promise<void> {
  const tool = ["kafka.tools.StorageTool", "format", "-t", newClusterId(), "-c", config, ...own];
  return runJava(tool, "formatting Kafka's storage");
}

/** 16 bytes in base64url: StorageTool would take another start of Java to tell some. */
function newClusterId(): string {
  return randomBytes(16).toString("base64url");
}

/**
 * A broker that ends in peace once it answers leaves its loaded classes: each later start takes half of the time. Brokers
 * work without them, so that a failure is told and no more.
 */
async function archiveClasses(): Promise<void> {
  const archive = `${CLASSES}.${process.pid}`;
  const { directory, config, port } = await copyStorage();
  const java = spawn("java", [...javaOptions("warn", `-XX:ArchiveClassesAtExit=${archive}`), "kafka.Kafka", config], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const printed = Promise.all([text(java.stdout), text(java.stderr)]);
  const exited = new Promise<void>((resolve) => java.once("close", () => resolve()));
  try {
    await answersMetadata(port, exited);
    java.kill("SIGTERM");
    await exited;
    await rename(archive, CLASSES);
  } catch (error) {
    java.kill("SIGKILL");
    await exited;
    const said = (await printed).join("").slice(-2_000);
    process.stderr.write(`Kafka's classes are not archived, and brokers start slower: ${error}\n${said}\n`);
  } finally {
    java.kill("SIGKILL");
    await rm(archive, { force: true });
    await rm(directory, { recursive: true, force: true });
  }
}

async function runJava(args: string[], what: string): Promise<void> {
  const java = spawn("java", [...javaOptions(), ...args], { stdio: ["ignore", "pipe", "pipe"], timeout: TOOL_MS_MAX });
  const ended = new Promise<string>((resolve) => {
    java.once("error", (error) => resolve(String(error)));
    java.once("close", (code, signal) => resolve(code === 0 ? "" : `Java ended with ${signal ?? `code ${code}`}`));
  });
  const [fault, ...printed] = await Promise.all([ended, text(java.stdout), text(java.stderr)]);
  if (fault !== "") throw new Error(`${what}: ${fault}\n${printed.join("").slice(-2_000)}`);
}

function javaOptions(level = "warn", classes = `-XX:SharedArchiveFile=${CLASSES}`): string[] {
  // Most tests end before the second compiler has paid for itself: a quarter less of their time.
  const jit = process.env.VITEST ? ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"] : [];
  const log = `-Dorg.slf4j.simpleLogger.defaultLogLevel=${level}`;
  return [...jit, classes, "-Xms256m", "-Xmx768m", log, "-cp", `${JARS}*`];
}

async function fetchJars(): Promise<void> {
  if (hasJars()) return;
  const staging = `${JARS.slice(0, -1)}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  execFileSync("mvn", ["-q", "-B", "-f", POM, "dependency:copy-dependencies", `-DoutputDirectory=${staging}`], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await moveInto(staging, JARS);
}

/** Made beside and moved, so that a run that is interrupted or in parallel never leaves half a directory. */
async function moveInto(staging: string, place: string): Promise<void> {
  await rename(staging, place).catch(async (error: unknown) => {
    await rm(staging, { recursive: true, force: true });
    if (!existsSync(place)) throw error; // Otherwise another process was first.
  });
}

function serverProperties(data: string, port: number, controllerPort: number, advertisedPort: number): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controllerPort}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${advertisedPort}
log.dirs=${data}
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
