// Processes that must not outlive this one, however it ends and whatever state they are in.
import { type ChildProcess, spawn } from "node:child_process";
import type { Writable } from "node:stream";

/** Keeps a list of process ids that its input adds to and takes from; at the end of input, kills those that are left. */
const SCRIPT = `pids=
while read -r sign pid; do
  kept=
  for one in $pids; do [ "$one" = "$pid" ] || kept="$kept $one"; done
  pids=$kept
  [ "$sign" = - ] || pids="$pids $pid"
done
[ -z "$pids" ] || kill -9 $pids`;

let guard: ChildProcess | undefined;

/**
 * Has the process killed with -9 when this one ends without having seen it end. A shell beside does it: the pipe to it
 * closes even when its owner is killed with -9, and a frozen process could not watch its parent itself.
 */
export function killWithUs({ pid, exited }: { pid: number; exited: Promise<unknown> }): void {
  guard ??= startGuard();
  const list = guard.stdin as Writable;
  list.write(`+ ${pid}\n`);
  void exited.then(() => list.write(`- ${pid}\n`));
}

function startGuard(): ChildProcess {
  // A session of its own: it must survive the Ctrl-C that ends us.
  const shell = spawn("sh", ["-c", SCRIPT], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  shell.unref();
  return shell;
}
