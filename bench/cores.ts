// What each process below this one takes, by what it is: CPU, memory, open files. From /proc, so on Linux only.
import { readdirSync, readFileSync } from "node:fs";

/** Of a process' command line. The first that matches names it. */
const PARTS: readonly (readonly [string, RegExp])[] = [
  ["broker", /\bkafka\.Kafka\b|redpanda/],
  ["engine", /services[/-]clickhouse[/-]/],
  ["gateway", /gateway-process|cli\.js gateway/],
  ["consumer", /consumer-process|cli\.js consumer/],
  ["standalone", /cli\.[jt]s start/],
  ["load generator", /bench\/load\.ts/],
  ["browser", /chrom/],
];
const CLOCK_TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

export interface Taken {
  /** CPU so far. */
  seconds: number;
  residentMb: number;
  openFiles: number;
}

/** By part; undefined where there is no /proc. */
export function readTaken(): Map<string, Taken> | undefined {
  if (process.platform !== "linux") return undefined;
  const processes = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((one) => one !== undefined);
  const below = new Set([process.pid]);
  for (let size = 0; size !== below.size; ) {
    size = below.size;
    for (const { pid, parent } of processes) if (below.has(parent)) below.add(pid);
  }
  const parts = new Map<string, Taken>();
  for (const { pid, command, taken } of processes) {
    if (!below.has(pid)) continue;
    const name = PARTS.find(([, pattern]) => pattern.test(command))?.[0] ?? "bench itself";
    const sum = parts.get(name) ?? { seconds: 0, residentMb: 0, openFiles: 0 };
    sum.seconds += taken.seconds;
    sum.residentMb += taken.residentMb;
    sum.openFiles += taken.openFiles;
    parts.set(name, sum);
  }
  return parts;
}

export function readProcess(pid: number) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    const taken: Taken = {
      seconds: (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND,
      residentMb: (Number(fields[21]) * PAGE_BYTES) / 1e6,
      openFiles: readdirSync(`/proc/${pid}/fd`).length,
    };
    return { pid, parent: Number(fields[1]), command, taken };
  } catch {
    // It has ended, or is another user's.
    return undefined;
  }
}

type Parts = ReadonlyMap<string, Taken> | undefined;

/** Cores that each part took on the mean of `seconds`, the most first. A part that has ended meanwhile is not counted. */
export function coresOf(before: Parts, after: Parts, seconds: number): Record<string, number> | undefined {
  if (!before || !after) return undefined;
  const taken = [...after].map(
    ([name, at]) => [name, Math.max(0, at.seconds - (before.get(name)?.seconds ?? 0)) / seconds] as const,
  );
  return Object.fromEntries(taken.sort(([, a], [, b]) => b - a));
}
