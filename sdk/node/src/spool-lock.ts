// One process a spool directory. The lock is a file that says who holds it, so that it can be told when nobody does.
import { randomUUID } from "node:crypto";
import { linkSync, readFileSync, readlinkSync, rmSync, statSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

/** Another client uses the directory; the message says which, and what to do. */
export class SpoolInUseError extends Error {
  override readonly name = "SpoolInUseError";
}

export interface SpoolLock {
  /** False for good once another process has taken the directory over, which one that stood still learns afterwards. */
  isHeld(): boolean;
  /** `tell` hears of it once, from `isHeld`. */
  onLost(tell: (error: SpoolInUseError) => void): void;
  release(): void;
}

interface Owner {
  token: string;
  pid: number;
  /** When the process began, as its system counts; a pid alone is given to another process later. */
  begun: string;
  /** Processes of two places do not see each other: another machine, another container. */
  place: string;
}

const BEAT_MS = 2_000;
/** An owner elsewhere that has not shown itself for so long is gone. */
const SILENT_MS_MAX = 15_000;
const TAKEOVER_MS_MAX = 10_000;

/** Throws SpoolInUseError, or the file system's error. */
export function lockSpool(dir: string): SpoolLock {
  const path = join(dir, "lock");
  const own: Owner = { token: randomUUID(), pid: process.pid, begun: begunOf(process.pid) ?? "", place: placeOf() };
  const draft = join(dir, `lock-${own.token}`);
  try {
    writeFileSync(draft, JSON.stringify(own));
    // A link appears with its content or not at all, and never replaces another.
    if (!tryLink(draft, path)) takeOver(dir, draft, path, own);
  } finally {
    rmSync(draft, { force: true });
  }
  let isHeld = true;
  let tellLost: ((error: SpoolInUseError) => void) | undefined;
  let seenMs = Date.now();

  function look(): void {
    const owner = readOwner(path);
    seenMs = Date.now();
    // Without a lock file there is no other owner: somebody has removed the directory's files.
    if (owner !== undefined && owner.token !== own.token) isHeld = false;
    else touch(path);
  }
  const beat = setInterval(() => {
    if (isHeld) attemptLook();
  }, BEAT_MS);
  beat.unref();

  function attemptLook(): void {
    try {
      look();
    } catch {
      // A file system that does not answer now says nothing about the owner; the next beat asks again.
    }
  }

  return {
    isHeld() {
      // Beats were missed: the process stood still, perhaps for long enough to be taken for dead.
      if (isHeld && Math.abs(Date.now() - seenMs) > 2 * BEAT_MS) attemptLook();
      if (!isHeld) {
        const tell = tellLost;
        tellLost = undefined;
        tell?.(
          new SpoolInUseError(`${dir} was taken over by another process while this one stood still: start it again`),
        );
      }
      return isHeld;
    },
    onLost(tell) {
      tellLost = tell;
    },
    release() {
      clearInterval(beat);
      if (readOwner(path)?.token === own.token) rmSync(path, { force: true });
    },
  };
}

function takeOver(dir: string, draft: string, path: string, own: Owner): void {
  // Of several processes that find the same dead owner one may go on: otherwise the slower would remove the faster's lock.
  const gate = join(dir, "lock-takeover");
  if ((ageMs(gate) ?? 0) > TAKEOVER_MS_MAX) rmSync(gate, { force: true });
  if (!tryLink(draft, gate)) throw new SpoolInUseError(`${dir} is being taken over by another process`);
  try {
    const owner = readOwner(path);
    if (owner !== undefined) refuseLiving(dir, path, owner, own);
    rmSync(path, { force: true });
    if (!tryLink(draft, path)) throw new SpoolInUseError(`${dir} was just taken by another process`);
  } finally {
    unlinkSync(gate);
  }
}

function refuseLiving(dir: string, path: string, owner: Owner, own: Owner): void {
  const remedy = "give each process a directory of its own";
  if (owner.place === own.place) {
    if (begunOf(owner.pid) !== owner.begun) return;
    const who = owner.pid === own.pid ? "another client of this process" : `process ${owner.pid}`;
    throw new SpoolInUseError(`${dir} is used by ${who}: ${remedy}`);
  }
  const silentMs = ageMs(path) ?? SILENT_MS_MAX;
  if (silentMs >= SILENT_MS_MAX) return;
  const seconds = Math.ceil((SILENT_MS_MAX - silentMs) / 1000);
  throw new SpoolInUseError(
    `${dir} is used by process ${owner.pid} of another machine or container: ${remedy}; if it is gone, try again in ${seconds} s`,
  );
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Undefined: there is none, or nothing that a client wrote. */
function readOwner(path: string): Owner | undefined {
  try {
    const found = JSON.parse(readFileSync(path, "utf8")) as Partial<Owner> | null;
    return typeof found?.token === "string" && typeof found.place === "string" ? (found as Owner) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function touch(path: string): void {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch {
    // Who removes the directory of a running process finds its events gone in any case.
  }
}

function ageMs(path: string): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && Date.now() - stat.mtimeMs;
}

/** Undefined: no such process. On systems without /proc all processes of one pid are the same. */
function begunOf(pid: number): string | undefined {
  if (process.platform === "linux") {
    try {
      // The second field is a name in parentheses that may hold anything; the start time is the 22nd.
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    } catch {
      return undefined;
    }
  }
  try {
    process.kill(pid, 0);
    return "";
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === "EPERM" ? "" : undefined;
  }
}

function placeOf(): string {
  if (process.platform !== "linux") return hostname();
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
}
