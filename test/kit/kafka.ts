// A real Kafka broker for tests and benchmarks: Apache Kafka from Maven Central on a JDK, or Redpanda in a container.
// Run as a script it keeps one broker in the foreground and prints its address: node test/kit/kafka.ts

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "./free-port.ts";
import { brokerCommand, createStorage, hasJars, type KafkaStorage, type StorageOptions } from "./kafka-java.ts";
import { answersMetadata } from "./kafka-metadata.ts";
import { patience } from "./patience.ts";

const REDPANDA_IMAGE = "docker.io/redpandadata/redpanda:v25.3.1";
/** Another process can take a port after it was found free: then the broker ends, and starts on others. */
const STARTS_MAX = 3;

/** One broker, listening on a free port of 127.0.0.1. It dies with the process that started it. */
export interface TestBroker extends AsyncDisposable {
  /** Its own address, whatever it advertises. */
  readonly brokers: string[];
  kill9(): Promise<void>;
  /** Tells it to stop and waits until it has. */
  stop(): Promise<void>;
  /** Starts it again on the same port and data; resolves when it answers. */
  restart(): Promise<void>;
  /** Freezes it: connections stay open and nothing answers. */
  pause(): void;
  resume(): void;
  /** What it printed, warnings and worse. */
  log(): Promise<string>;
}

type Signal = "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT";

export interface BrokerOptions extends StorageOptions {
  /** Apache's only: options of Java. */
  java?: readonly string[];
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
async function startApache({ java, ...options }: BrokerOptions = {}): Promise<TestBroker> {
  return startOn(await createStorage(options), java);
}

/** A broker on storage that is there. */
export function startOn(storage: KafkaStorage, java?: readonly string[]): Promise<TestBroker> {
  const { directory, port } = storage;
  const logFile = join(directory, "kafka.log");
  const command = `${brokerCommand(storage, java)} >>'${logFile}' 2>&1`;
  return runBroker(port, {
    start: () => spawnGuarded(command, `rm -rf '${directory}'`),
    signal: signalBroker,
    remove: () => rm(directory, { recursive: true, force: true }),
    log: () => readFile(logFile, "utf8"),
  });
}

function signalBroker({ pid, hasEnded }: GuardedChild, signal: Signal): void {
  // The id of one that has ended is soon another's.
  if (signal === "SIGKILL" && hasEnded()) return;
  if (hasEnded()) throw new Error(`the broker has ended: no ${signal}`);
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It ended a moment ago.
    if (signal !== "SIGKILL" || (error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

export async function startKafka(options: BrokerOptions = {}): Promise<TestBroker> {
  for (let start = 1; ; start += 1) {
    try {
      return await startApache(options);
    } catch (error) {
      if (start === STARTS_MAX) throw error;
      process.stderr.write(`${error}\nStarting another Kafka broker.\n`);
    }
  }
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
  const signals = { SIGKILL: "kill", SIGTERM: "stop", SIGSTOP: "pause", SIGCONT: "unpause" } as const;
  return runBroker(port, {
    start: () => spawnGuarded(`docker start -a ${name} >/dev/null 2>&1`, `docker rm -f ${name} >/dev/null 2>&1`),
    signal: (_child, signal) => docker(signals[signal], name),
    remove: async () => void docker("rm", "-f", name),
    log: async () => execFileSync("docker", ["logs", name]).toString(),
  });
}

interface BrokerControl {
  start(): Promise<GuardedChild>;
  signal(child: GuardedChild, signal: Signal): void;
  remove(): Promise<void>;
  log(): Promise<string>;
}

async function runBroker(port: number, control: BrokerControl): Promise<TestBroker> {
  let child: GuardedChild | undefined = await control.start();
  const end = async (how: Signal) => {
    const dying = child;
    child = undefined;
    if (dying === undefined) return;
    control.signal(dying, how);
    await dying.ended();
  };
  const kill9 = () => end("SIGKILL");
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
    const log = (await control.log()).slice(-2_000);
    await dispose();
    throw new Error(`the Kafka broker did not start: ${log}`, { cause: error });
  }
  return {
    brokers: [`127.0.0.1:${port}`],
    kill9,
    stop: () => end("SIGTERM"),
    async restart() {
      await kill9();
      child = await control.start();
      await answersMetadata(port, child.exited);
    },
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    log: () => control.log(),
    [Symbol.asyncDispose]: dispose,
  };
}

interface GuardedChild {
  pid: number;
  exited: Promise<void>;
  hasEnded(): boolean;
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
  const hasEnded = () => shell.exitCode !== null || shell.signalCode !== null;
  const ended = () => {
    if (!hasEnded()) shell.ref();
    return exited;
  };
  return { pid, exited, hasEnded, ended };
}

function runs(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: "ignore", timeout: patience(10_000) });
    return true;
  } catch {
    return false; // Not installed, or its daemon does not answer: either way it is of no use here.
  }
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
