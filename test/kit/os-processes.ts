// What the operating system says about processes: the proof that one is dead or frozen.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

interface ProcessEntry {
  pid: number;
  parent: number;
  /** As ps has it: "T…" is stopped by a signal, "Z…" has ended. */
  state: string;
}

const run = promisify(execFile);

async function listProcesses(): Promise<ProcessEntry[]> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=", "-o", "ppid=", "-o", "stat="]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [pid, parent, state = ""] = line.trim().split(/\s+/);
      return { pid: Number(pid), parent: Number(parent), state };
    });
}

/** Process ids of the children that a process has now; none when it is gone. Linux. */
export async function childrenOf(pid: number): Promise<number[]> {
  try {
    const pids = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
    return pids.split(" ").filter(Boolean).map(Number);
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}

/** The only child of a process; throws when there is none, or more than one. */
export async function onlyChildOf(pid: number): Promise<number> {
  const children = (await listProcesses()).filter(({ parent, state }) => parent === pid && !state.startsWith("Z"));
  const [child] = children;
  if (child === undefined || children.length > 1) throw new Error(`process ${pid} has ${children.length} children`);
  return child.pid;
}

/** To all of a process group. False: it is empty, and its id may soon be that of another. */
export function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-leader, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

export async function isFrozen(pid: number): Promise<boolean> {
  return (await listProcesses()).some((entry) => entry.pid === pid && entry.state.startsWith("T"));
}

export async function isAlive(pid: number): Promise<boolean> {
  return (await listProcesses()).some((entry) => entry.pid === pid && !entry.state.startsWith("Z"));
}
