import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, expect, it } from "vitest";

const modules = ["lifecycle", "log"].map((name) => new URL(`./${name}.ts`, import.meta.url).href);
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** A process that runs `start` (source text of a function) as its service. */
function run(start: string, stopTimeoutMs = 5_000) {
  const script = `
    import { exitWith, runService } from ${JSON.stringify(modules[0])};
    import { createLogger } from ${JSON.stringify(modules[1])};
    const logger = createLogger({ level: "info", service: "test" });
    const never = new Promise(() => {});
    const open = setInterval(() => {}, 1000);
    const say = (text) => process.stderr.write(text + "\\n");
    const dispose = async () => { say("disposed"); clearInterval(open); };
    exitWith(await runService({ name: "test", start: ${start}, stopTimeoutMs: ${stopTimeoutMs}, logger }));
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let logged = "";
  let said = "";
  child.stdout.on("data", (chunk) => (logged += chunk));
  child.stderr.on("data", (chunk) => (said += chunk));
  const closed = once(child, "close");
  return {
    child,
    said: () => said,
    logged: () => logged,
    until: (text: string) => expect.poll(() => said + logged, { timeout: 10_000 }).toContain(text),
    async exit() {
      const [code, signal] = (await closed) as [number | null, string | null];
      return code ?? signal;
    },
  };
}

const RUNNING = 'async () => { say("running"); return { [Symbol.asyncDispose]: dispose }; }';

it.each(["SIGTERM", "SIGINT"] as const)("stops on %s, disposes once and exits 0", async (signal) => {
  const service = run(RUNNING);
  await service.until("running");
  service.child.kill(signal);
  expect(await service.exit()).toBe(0);
  expect(service.said()).toBe("running\ndisposed\n");
});

it.each([
  ["SIGTERM", 143],
  ["SIGINT", 130],
] as const)("exits at once on a second %s", async (signal, code) => {
  const service = run('async () => { say("running"); return { [Symbol.asyncDispose]: () => never }; }', 60_000);
  await service.until("running");
  service.child.kill(signal);
  await service.until("stopping");
  // Signals close to the first are one and the same, so repeat until one counts.
  const again = () => {
    service.child.kill(signal);
    return service.child.exitCode;
  };
  await expect.poll(again, { timeout: 10_000 }).toBe(code);
});

it("takes a signal that arrives twice, from the terminal and from npm, for one", async () => {
  const service = run(`async () => {
    say("running");
    process.on("SIGINT", () => setTimeout(release, 100));
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    return { async [Symbol.asyncDispose]() { await released; await dispose(); } };
  }`);
  await service.until("running");
  service.child.kill("SIGINT");
  await service.until("stopping");
  service.child.kill("SIGINT");
  expect(await service.exit()).toBe(0);
  expect(service.said()).toBe("running\ndisposed\n");
});

it("exits 1 when stopping takes longer than it may", async () => {
  const service = run('async () => { say("running"); return { [Symbol.asyncDispose]: () => never }; }', 50);
  await service.until("running");
  service.child.kill("SIGTERM");
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toContain("not done within 50 ms");
});

it("exits 1 when stopping fails", async () => {
  const service = run(
    'async () => { say("running"); return { async [Symbol.asyncDispose]() { throw new Error("stuck"); } }; }',
  );
  await service.until("running");
  service.child.kill("SIGTERM");
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toContain("stuck");
});

it("logs why it cannot start, with causes, and exits 1", async () => {
  const service = run('async () => { throw new Error("no start", { cause: new Error("port taken") }); }');
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toMatch(/"level":"fatal".*no start.*port taken/);
  expect(service.logged()).not.toContain("stack");
});

it("logs the stack of a start that fails for a bug", async () => {
  const service = run("async () => undefined.nothing");
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toMatch(/"level":"fatal".*TypeError.*"stack"/);
});

it("disposes and exits 1 when the running service fails", async () => {
  const service = run(
    'async () => ({ failed: Promise.reject(new Error("log was reset")), [Symbol.asyncDispose]: dispose })',
  );
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toContain("log was reset");
  expect(service.said()).toBe("disposed\n");
});

it.each([
  ["an unhandled rejection", 'Promise.reject(new Error("lost", { cause: new Error("deep") }))'],
  ["an exception in a callback", 'setTimeout(() => { throw new Error("lost", { cause: new Error("deep") }); })'],
])("logs %s with its causes and exits 1", async (_, failure) => {
  const service = run(`async () => { ${failure}; return { [Symbol.asyncDispose]: dispose }; }`);
  expect(await service.exit()).toBe(1);
  expect(service.logged()).toMatch(/"level":"fatal".*lost.*deep/);
});

it("disposes of a service that was still starting when the signal came", async () => {
  const service = run(`async (signal) => {
    say("starting");
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    return { [Symbol.asyncDispose]: dispose };
  }`);
  await service.until("starting");
  service.child.kill("SIGTERM");
  expect(await service.exit()).toBe(0);
  expect(service.said()).toBe("starting\ndisposed\n");
});

it("exits 0 when the start gives up because of the signal, 1 when it hangs", async () => {
  const polite = run(
    'async (signal) => { say("starting"); await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))); }',
  );
  const hanging = run('async () => { say("starting"); await never; }', 50);
  await Promise.all([polite.until("starting"), hanging.until("starting")]);
  polite.child.kill("SIGTERM");
  hanging.child.kill("SIGTERM");
  expect(await polite.exit()).toBe(0);
  expect(await hanging.exit()).toBe(1);
});

it("exits although something was left open", async () => {
  const service = run('async () => { say("running"); return { async [Symbol.asyncDispose]() {} }; }');
  await service.until("running");
  service.child.kill("SIGTERM");
  expect(await service.exit()).toBe(0);
});
