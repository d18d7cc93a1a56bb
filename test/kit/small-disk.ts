// A disk that can be filled up: a small tmpfs where one may be mounted; else a limit on the size of the process's files.
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

export interface Disk extends AsyncDisposable {
  /** Whether it is a file system of its own, whose room can be seen. */
  readonly isMounted: boolean;
  /** Not there yet. */
  readonly dataDir: string;
  /** Leaves process `pid` no room to write, until `free` of what it returns is called or it is disposed. */
  fill(pid: number): Promise<Filled>;
}

export interface Filled extends AsyncDisposable {
  free(): Promise<void>;
}

const exec = promisify(execFile);

const FILLER_BYTES = 1024 * 1024;
const FILL_AGAIN_MS = 20;
const UNMOUNT_MS_MAX = 20_000;

/** Disposing removes it with everything on it; no process may use it any more. */
export async function createDisk(megabytes: number): Promise<Disk> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-disk-"));
  const mountPoint = join(directory, "disk");
  await mkdir(mountPoint);
  const isMounted = await exec("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", mountPoint]).then(
    () => true,
    // Not root, or not allowed to mount for another reason: the limit on files does without.
    () => false,
  );
  const guard = isMounted ? unmountAfterUs(mountPoint, directory) : undefined;
  const dataDir = join(mountPoint, "data");
  return {
    isMounted,
    dataDir,
    fill: isMounted ? () => fillUp(join(mountPoint, "filler")) : (pid) => limitFiles(pid, dataDir),
    async [Symbol.asyncDispose]() {
      if (isMounted) await unmount(mountPoint);
      await rm(directory, { recursive: true, force: true });
      guard?.stdin.end();
    },
  };
}

/** A mount outlives whoever is killed, and nobody could remove the directory around it: a shell beside undoes it then. */
function unmountAfterUs(mountPoint: string, directory: string) {
  const script = 'read -r _; umount -l "$0"; rm -rf --one-file-system "$1"';
  const shell = spawn("sh", ["-c", script, mountPoint, directory], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  shell.unref();
  return shell;
}

async function fillUp(filler: string): Promise<Filled> {
  const file = await open(filler, "a");
  const freeing = new AbortController();
  const fillToTheEnd = async () => {
    try {
      while (!freeing.signal.aborted) await file.write(Buffer.alloc(FILLER_BYTES));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  };
  await fillToTheEnd();
  /** ClickHouse's merges give room back. */
  async function keepFull() {
    while (!freeing.signal.aborted) {
      await fillToTheEnd();
      await sleep(FILL_AGAIN_MS);
    }
  }
  const keeping = keepFull();
  return untilFreed(async () => {
    freeing.abort();
    await keeping;
    await file.close();
    await rm(filler);
  });
}

/** From now on process `pid` can write no file beyond this size; what it starts later is not limited by it. */
export async function limitFileSize(pid: number, bytes: string): Promise<void> {
  await exec("prlimit", [`--pid=${pid}`, `--fsize=${bytes}:`]);
}

async function limitFiles(pid: number, dataDir: string): Promise<Filled> {
  const limit = (bytes: string) => limitFileSize(pid, bytes);
  await limit(String((await stat(join(dataDir, "log.sqlite-wal"))).size));
  return untilFreed(async () => {
    try {
      await limit("unlimited");
    } catch (error) {
      // The process that was limited may have been killed since, and its successor has no limit.
      if (isRunning(pid)) throw error;
    }
  });
}

function untilFreed(makeRoom: () => Promise<void>): Filled {
  let freed: Promise<void> | undefined;
  const free = () => {
    freed ??= makeRoom();
    return freed;
  };
  return { free, [Symbol.asyncDispose]: free };
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    // The only reason for which asking about a process of one's own fails: it is gone.
    return false;
  }
}

/** A process killed a moment ago may still hold it. */
async function unmount(mountPoint: string): Promise<void> {
  for (const deadline = performance.now() + UNMOUNT_MS_MAX; ; await sleep(100)) {
    try {
      await exec("umount", [mountPoint]);
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}
