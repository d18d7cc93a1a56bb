// The process that owns the ClickHouse data directory: chdb, and the HTTP endpoint before it. Started by app.ts through
// sandbox.ts, told what to do by one message, and gone when its parent is gone.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { listenHost } from "#lib/http/addresses.ts";
import { leaveFileSystem, writeAccessConfig } from "./access.ts";
import { assertDefinitions } from "./boundary.ts";
import { createClickHouseServer } from "./http.ts";
import { hasRoom } from "./lost-writes.ts";
import type { OwnedDatabase } from "./owned-database.ts";
import { createEngine, type Engine } from "./sessions.ts";

export interface ChildOptions {
  host: string;
  port: number;
  /** Absolute path of the directory that is this process's alone. */
  directory: string;
  user: string;
  password: string;
  owned?: OwnedDatabase | undefined;
  maxBodyBytes: number;
}

export type ParentMessage = { type: "start"; options: ChildOptions } | { type: "stop" };

export type ChildMessage =
  | { type: "ready" }
  /** `notConfined`: why the operating system does not confine the process; absent when it does. */
  | { type: "listening"; port: number; notConfined?: string | undefined }
  | { type: "failed"; message: string };

const GRACE_MS = 5_000;
/** A child whose parent was killed ends by itself, a moment later than its parent. */
const LOCK_WAIT_MS = 4_000;

class StartError extends Error {
  override readonly name = "StartError";
}

let stop = async (): Promise<void> => undefined;
/** Held to the end of the process: as long as it lives, so does its engine. */
const locks: DatabaseSync[] = [];

async function start(options: ChildOptions): Promise<void> {
  const directory = options.directory;
  prepareDirectory(directory);
  // SQLite's file lock is held by the kernel and ends with the process, however it ends; a pid file would not.
  locks.push(takeLock(join(directory, "owner.lock")));
  const connectionArgs = writeAccessConfig(join(directory, "access"));
  const data = join(directory, "data");
  assertDefinitions(data);
  const removeWorkingDirectory = leaveFileSystem(directory);
  const opening = openEngine(data, connectionArgs);
  removeWorkingDirectory();
  const engine = await opening;
  const server = createClickHouseServer(engine, options);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(new StartError(listenFault(error, options), { cause: error })));
    server.listen({ host: listenHost(options.host), port: options.port }, resolve);
  });
  stop = async () => {
    server.close();
    server.closeIdleConnections();
    await engine.close(GRACE_MS);
  };
  const notConfined = process.env.MILLRACE_NOT_CONFINED;
  tell({ type: "listening", port: (server.address() as AddressInfo).port, notConfined });
}

function prepareDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // A full disk or a read-only mount shows here, as a sentence, and not later from inside the engine.
    const probe = join(directory, "probe");
    writeFileSync(probe, Buffer.alloc(4096));
    rmSync(probe);
  } catch (error) {
    throw unwritable(directory, (error as NodeJS.ErrnoException).code ?? String(error), error);
  }
  if (!hasRoom(directory)) throw unwritable(directory, "ENOSPC");
}

function unwritable(directory: string, code: string, cause?: unknown): StartError {
  const remedy =
    code === "ENOSPC"
      ? "The disk is full: free some space."
      : "Make it writable for this user, or set DATA_DIR elsewhere.";
  return new StartError(`Cannot write to ${directory} (${code}). ${remedy}`, { cause });
}

function takeLock(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: LOCK_WAIT_MS });
  try {
    database.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;");
  } catch (error) {
    database.close();
    throw new StartError(
      `${path} is locked: another process serves this data directory. Stop it, or set DATA_DIR to another directory.`,
      { cause: error },
    );
  }
  return database;
}

async function openEngine(path: string, connectionArgs: readonly string[]): Promise<Engine> {
  try {
    return await createEngine({ path, connectionArgs, onLostWrite });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const missing = (error as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND" || reason.includes("@chdb/");
    throw new StartError(
      missing
        ? "The package chdb is not installed or has no binary for this platform. Run npm install, or set CLICKHOUSE_URL to a ClickHouse server."
        : `ClickHouse cannot open ${path}: ${reason}. If the directory is damaged, move it away and start again.`,
      { cause: error },
    );
  }
}

function listenFault(error: NodeJS.ErrnoException, { host, port }: ChildOptions): string {
  if (error.code === "EADDRINUSE") {
    return `Port ${port} on ${host} is taken. Stop the program that uses it, or set CLICKHOUSE_HTTP_PORT to another port (0: any free one).`;
  }
  if (error.code === "EACCES")
    return `Not allowed to listen on port ${port}. Set CLICKHOUSE_HTTP_PORT to one above 1023.`;
  if (error.code === "EADDRNOTAVAIL") return `${host} is not an address of this machine. Set HOST to one.`;
  return `Cannot listen on ${host}:${port} (${error.code ?? error.message}).`;
}

function tell(message: ChildMessage): void {
  if (process.connected) process.send?.(message);
}

async function exit(): Promise<void> {
  setTimeout(end, GRACE_MS + 1_000);
  await stop();
  end();
}

function onLostWrite(): void {
  process.stderr.write("a file could not be written: is the disk full or broken? What was in it is not acknowledged\n");
  end();
}

/** The engine's own way out can hang, and its files stay taken for as long. Acknowledged rows are on disk. */
function end(): void {
  process.kill(process.pid, "SIGKILL");
}

process.on("message", (message: ParentMessage) => {
  if (message.type === "stop") {
    void exit();
    return;
  }
  start(message.options).catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    tell({ type: "failed", message: text });
    process.exitCode = 1;
    process.disconnect?.();
  });
});
// Nobody is left to stop for, and the next process waits for the files.
process.on("disconnect", end);
// Terminals, systemd and `timeout` send these to the whole group; the parent, which lives for as long as we are
// connected, decides when its child ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
tell({ type: "ready" });
