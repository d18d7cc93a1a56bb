// Where the processors' time goes: CPU of each process below this one, by what it is. From /proc, so on Linux only.
import { readdirSync, readFileSync } from "node:fs";

/** Of a process' command line. The first that matches names it. */
const PARTS: readonly (readonly [string, RegExp])[] = [
  ["broker", /\bkafka\.Kafka\b|redpanda/],
  ["engine", /services\/clickhouse\//],
  ["gateway", /gateway-process/],
  ["consumer", /consumer-process/],
  ["load generator", /bench\/load\.ts/],
];
const CLOCK_TICKS_PER_SECOND = 100;

/** Seconds of CPU so far, by part; undefined where there is no /proc. */
export type CoreTimes = ReadonlyMap<string, number> | undefined;

export function readCoreTimes(): CoreTimes {
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
  const times = new Map<string, number>();
  for (const { pid, command, seconds } of processes) {
    if (!below.has(pid)) continue;
    const name = PARTS.find(([, pattern]) => pattern.test(command))?.[0] ?? "bench itself";
    times.set(name, (times.get(name) ?? 0) + seconds);
  }
  return times;
}

function readProcess(pid: number) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return { pid, parent: Number(fields[1]), command, seconds: ticks / CLOCK_TICKS_PER_SECOND };
  } catch {
    // It has ended.
    return undefined;
  }
}

/** Cores that each part took on the mean of `seconds`, the most first. A part that has ended meanwhile is not counted. */
export function coresOf(before: CoreTimes, after: CoreTimes, seconds: number): Record<string, number> | undefined {
  if (!before || !after) return undefined;
  const taken = [...after].map(([name, at]) => [name, Math.max(0, at - (before.get(name) ?? 0)) / seconds] as const);
  return Object.fromEntries(taken.sort(([, a], [, b]) => b - a));
}
