// Starts the ClickHouse endpoint in a process of its own and keeps it running: chdb is native code that holds the data
// directory, and whatever happens in it must not take the gateway and the log with it.
import { type ChildProcess, fork } from "node:child_process";
import { resolve } from "node:path";
import { urlHost } from "#lib/http/addresses.ts";
import type { BaseLogger } from "#lib/process/log.ts";
import { bindRefusal } from "./auth.ts";
import type { ChildMessage, ChildOptions, ParentMessage } from "./child.ts";
import { READ_SLOTS, WRITE_SLOTS } from "./sessions.ts";

export interface ClickHouseOptions {
  /** Address to listen on; anything but loopback needs a password. */
  host: string;
  /** 0: a free port, kept over restarts of the child. */
  port: number;
  /** Its subdirectory `clickhouse` is owned by the child. */
  dataDir: string;
  user: string;
  password: string;
  /** A database that nobody but the holder of the key may change. */
  owned?: ChildOptions["owned"];
  /** Bound on one request body after decompression, bytes. Default 64 MiB. */
  maxBodyBytes?: number | undefined;
  logger?: Pick<BaseLogger, "info" | "warn" | "error"> | undefined;
}

export interface ClickHouseEndpoint extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Process id of the child that serves now; undefined while it is being restarted. */
  readonly pid: number | undefined;
  /** How often the child had to be started again. */
  readonly restarts: number;
}

const MAX_BODY_BYTES = 64 * 1024 * 1024;
const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 10_000;
/** A child that lived this long was healthy: its end is no reason to wait longer than the shortest backoff. */
const HEALTHY_MS = 60_000;
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 8_000;
const STDERR_CHARACTERS_KEPT = 2_000;

/**
 * Resolves when the endpoint answers. Rejects with a message that names the remedy: port taken, directory not writable or
 * in use, no password on an open address. Disposing ends the child, bounded in time.
 */
export async function startClickHouse(options: ClickHouseOptions): Promise<ClickHouseEndpoint> {
  const refusal = bindRefusal(options);
  if (refusal !== undefined) throw new Error(refusal);
  const childOptions: ChildOptions = {
    host: options.host.replace(/^\[(.*)\]$/, "$1"),
    port: options.port,
    directory: resolve(options.dataDir, "clickhouse"),
    user: options.user,
    password: options.password,
    owned: options.owned,
    maxBodyBytes: options.maxBodyBytes ?? MAX_BODY_BYTES,
  };
  const first = await launch(childOptions);
  if (first.notConfined !== undefined) {
    options.logger?.info(
      { reason: first.notConfined },
      "the ClickHouse process is not confined by the operating system",
    );
  }
  return supervise(first, { ...childOptions, port: first.port }, options.logger);
}

interface Running {
  child: ChildProcess;
  port: number;
  notConfined: string | undefined;
  /** Resolves with a short account of the end once the process is gone. */
  ended: Promise<string>;
}

function supervise(first: Running, options: ChildOptions, logger: ClickHouseOptions["logger"]): ClickHouseEndpoint {
  const stopping = new AbortController();
  let current: Running | undefined = first;
  let restarts = 0;

  async function keepRunning(): Promise<void> {
    let backoffMs = BACKOFF_MS_MIN;
    let startedMs = performance.now();
    for (;;) {
      const ended = await current?.ended;
      current = undefined;
      if (stopping.signal.aborted) return;
      if (ended !== undefined) logger?.error({ ended }, "the ClickHouse process ended, starting it again");
      if (performance.now() - startedMs > HEALTHY_MS) backoffMs = BACKOFF_MS_MIN;
      await pause(backoffMs, stopping.signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
      if (stopping.signal.aborted) return;
      startedMs = performance.now();
      try {
        current = await launch(options, stopping.signal);
        restarts++;
        logger?.info({ port: options.port, restarts }, "the ClickHouse process runs again");
      } catch (error) {
        if (stopping.signal.aborted) return;
        logger?.error({ err: error }, "the ClickHouse process did not start, trying again");
      }
    }
  }
  const supervision = keepRunning();

  return {
    url: `http://${urlHost(options.host)}:${options.port}`,
    port: options.port,
    get pid() {
      return current?.child.pid;
    },
    get restarts() {
      return restarts;
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      if (current !== undefined) await end(current);
      await supervision;
    },
  };
}

async function launch(options: ChildOptions, signal?: AbortSignal): Promise<Running> {
  const child = fork(new URL("./sandbox.ts", import.meta.url), [options.directory, String(options.port)], {
    // Not the parent's: a test runner's loader or a debugger's port are not meant for the child.
    execArgv: [],
    env: childEnvironment(process.env),
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_CHARACTERS_KEPT);
  });
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(String(error)));
    child.once("exit", (code, exitSignal) => resolve(`${exitSignal ?? `exit code ${code}`} ${stderr}`.trim()));
  });
  const onAbort = () => child.kill("SIGKILL");
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(onAbort, START_MS_MAX);
  try {
    const answer = new Promise<Exclude<ChildMessage, { type: "ready" }>>((resolve) => {
      child.on("message", (message: ChildMessage) => {
        if (message.type === "ready") tell(child, { type: "start", options });
        else resolve(message);
      });
    });
    const message = await Promise.race([answer, ended]);
    if (typeof message === "string") throw new Error(`The ClickHouse process ended while starting: ${message}`);
    if (message.type === "failed") {
      child.kill("SIGKILL");
      await ended;
      throw new Error(message.message);
    }
    return { child, port: message.port, ended, notConfined: message.notConfined };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** What Node and the engine need; keys, tokens and passwords of the other parts stay out of the process that runs SQL. */
function childEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const system = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT"];
  const kept = [...system, "NODE_COMPILE_CACHE", "NODE_V8_COVERAGE"];
  const entries = kept.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]]));
  // Each running statement holds one thread of the pool; the rest are for files and compression.
  return { ...Object.fromEntries(entries), UV_THREADPOOL_SIZE: String(READ_SLOTS + WRITE_SLOTS + 4) };
}

async function end({ child, ended }: Running): Promise<void> {
  tell(child, { type: "stop" });
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  await ended;
  clearTimeout(timer);
}

function tell(child: ChildProcess, message: ParentMessage): void {
  // A child that is gone has its end reported by `ended`; there is nothing more to say about a message it did not get.
  if (child.connected) child.send(message, () => undefined);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const wake = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal.addEventListener("abort", wake, { once: true });
  });
}
