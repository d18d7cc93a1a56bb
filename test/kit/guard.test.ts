import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { expect, it, vi } from "vitest";
import { isAlive, isFrozen } from "./os-processes.ts";

const GUARD = new URL("guard.ts", import.meta.url).href;

/** Starts two processes under guard and one that has ended, freezes the second, prints their ids, and stays if told to. */
const OWNER = `
  import { spawn } from "node:child_process";
  import { once } from "node:events";
  import { killWithUs } from ${JSON.stringify(GUARD)};
  const start = (seconds) => {
    const child = spawn("sleep", [String(seconds)], { stdio: "ignore" });
    if (seconds > 0) child.unref();
    killWithUs({ pid: child.pid, exited: once(child, "exit") });
    return child;
  };
  await once(start(0), "exit");
  const pids = [start(60).pid, start(60).pid];
  process.kill(pids[1], "SIGSTOP");
  process.stdout.write(pids.join(" ") + "\\n");
  if (process.argv.includes("--stay")) setInterval(() => undefined, 60_000);
`;

function startOwner(...args: string[]) {
  return spawn(process.execPath, ["--input-type=module", "-", ...args], { stdio: ["pipe", "pipe", "inherit"] });
}

it("a process and a frozen one die with their owner that was killed with -9", async () => {
  const owner = startOwner("--stay");
  owner.stdin.end(OWNER);
  const [line] = await once(owner.stdout, "data");
  const pids = String(line).trim().split(" ").map(Number) as [number, number];
  try {
    await vi.waitFor(async () => expect(await isFrozen(pids[1])).toBe(true));
    expect(await isAlive(pids[0])).toBe(true);
    owner.kill("SIGKILL");
    await vi.waitFor(async () => expect(await Promise.all(pids.map(isAlive))).toEqual([false, false]), 5_000);
  } finally {
    owner.kill("SIGKILL");
    for (const pid of pids) if (await isAlive(pid)) process.kill(pid, "SIGKILL");
  }
});

it("the guard neither keeps its owner from ending nor spares what it leaves behind", async () => {
  const owner = startOwner();
  owner.stdin.end(OWNER);
  const pids = (await text(owner.stdout)).trim().split(" ").map(Number);
  expect(pids).toHaveLength(2);
  await vi.waitFor(async () => expect(await Promise.all(pids.map(isAlive))).toEqual([false, false]), 5_000);
});
