// Apache Kafka's jars on the JDK that is here: fetched from Maven Central once, with what every start would do again kept
// beside them: the loaded classes, and storage as the format tool leaves it.

import { execFileSync, type StdioOptions, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { CACHE } from "./cache.ts";
import { freePort } from "./free-port.ts";
import { answersMetadata } from "./kafka-metadata.ts";
import { patience } from "./patience.ts";

/** KAFKA_VERSION=4.4.0 before a test or chaos run takes that one. */
const KAFKA_VERSION = process.env.KAFKA_VERSION || "4.1.0";
const JARS = join(CACHE, "kafka", KAFKA_VERSION, "/");
/** What Java made of the jars, for the version of Java that is here. */
const CLASSES = join(JARS, "broker.jsa");
const META = "meta.properties";
const POM = fileURLToPath(new URL("kafka-pom.xml", import.meta.url));
const TOOL_MS_MAX = patience(30_000);

export interface StorageOptions {
  /** Port of 127.0.0.1 that clients are told to connect to: that of a proxy before the broker. Default its own. */
  advertisedPort?: number;
  /** Apache's only: lines of server.properties for these ports, which win over ours. */
  properties?(ports: { port: number; controllerPort: number }): string;
  /** Apache's only: arguments for the format, such as --add-scram; the first use of some costs one more start of Java. */
  format?: readonly string[];
  /** Apache's only: its place in a cluster of several. Default: the only one, of a new cluster, on free ports. */
  node?: { id: number; clusterId: string; port: number; controllerPort: number };
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
  const formatted = formattedBy(options.format);
  if (!existsSync(formatted)) await formatOnce(formatted, options.format);
  if (!existsSync(CLASSES)) await archiveClasses();
  return copyStorage(options);
}

/** Storage with what another broker left in its data directory, on free ports. */
export async function createStorageFrom(kept: string): Promise<KafkaStorage> {
  await fetchJars();
  const { directory, config, port, data } = await configure();
  await cp(kept, data, { recursive: true });
  return { directory, config, port };
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

/** An empty log directory, of another cluster. */
function formattedBy(own: readonly string[] = []): string {
  const hash = createHash("sha256").update(own.join("\n")).digest("hex").slice(0, 12);
  return join(JARS, own.length === 0 ? "formatted" : `formatted-${hash}`);
}

async function copyStorage(options: StorageOptions = {}): Promise<KafkaStorage> {
  const { directory, config, port, data } = await configure(options);
  const formatted = formattedBy(options.format);
  await cp(formatted, data, { recursive: true });
  const meta = await readFile(join(formatted, META), "utf8");
  // A cluster of its own: what is told apart by the cluster's id must not be taken for that of another test.
  const { id = 1, clusterId = newId() } = options.node ?? {};
  const ids = { "cluster.id": clusterId, "node.id": String(id), "directory.id": newId() };
  await writeFile(
    join(data, META),
    meta.replace(/^([\w.]+)=.*$/gm, (line, key) => (key in ids ? `${key}=${ids[key as keyof typeof ids]}` : line)),
  );
  return { directory, config, port };
}

async function configure(options: StorageOptions = {}): Promise<KafkaStorage & { data: string }> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-kafka-"));
  const { port, controllerPort } = options.node ?? { port: await freePort(), controllerPort: await freePort() };
  const config = join(directory, "server.properties");
  const data = join(directory, "data");
  const common = serverProperties(data, port, controllerPort, options.advertisedPort ?? port);
  // Of a name that comes twice the later value counts.
  await writeFile(config, common + (options.properties?.({ port, controllerPort }) ?? ""));
  return { directory, config, port, data };
}

async function formatOnce(place: string, own: readonly string[] = []): Promise<void> {
  const { directory, config, data } = await configure();
  try {
    const tool = ["kafka.tools.StorageTool", "format", "-t", newId(), "-c", config, ...own];
    await runJava(tool, "formatting Kafka's storage");
    const staging = `${place}.${process.pid}`;
    await cp(data, staging, { recursive: true });
    await moveInto(staging, place);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** 16 bytes in base64url: StorageTool would take another start of Java to tell some. */
export function newId(): string {
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

/** As runKafkaTool, for a process whose own proxies are on the tool's way. Rejects with what it printed. */
export function runKafkaToolAside(mainClass: string, args: readonly string[]): Promise<string> {
  return runJava([mainClass, ...args], mainClass);
}

async function runJava(args: readonly string[], what: string): Promise<string> {
  const java = spawn("java", [...javaOptions(), ...args], { stdio: ["ignore", "pipe", "pipe"], timeout: TOOL_MS_MAX });
  const ended = new Promise<string>((resolve) => {
    java.once("error", (error) => resolve(String(error)));
    java.once("close", (code, signal) => resolve(code === 0 ? "" : `Java ended with ${signal ?? `code ${code}`}`));
  });
  const [fault, ...printed] = await Promise.all([ended, text(java.stdout), text(java.stderr)]);
  if (fault !== "") throw new Error(`${what}: ${fault}\n${printed.join("").slice(-2_000)}`);
  return printed.join("");
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
  execFileSync(
    "mvn",
    [
      "-q",
      "-B",
      "-f",
      POM,
      `-Dkafka.version=${KAFKA_VERSION}`,
      "dependency:copy-dependencies",
      `-DoutputDirectory=${staging}`,
    ],
    {
      stdio: ["ignore", "ignore", "inherit"],
    },
  );
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
