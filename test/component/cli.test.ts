import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { packageVersion } from "#lib/process/version.ts";

const millrace = fileURLToPath(new URL("../../bin/millrace.cjs", import.meta.url));

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [millrace, ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}

describe("millrace", () => {
  it("tells its version and nothing else", () => {
    expect(run("--version")).toEqual({ status: 0, stdout: `${packageVersion()}\n`, stderr: "" });
  });

  it("lists its commands with --help", () => {
    const { status, stdout, stderr } = run("--help");
    expect([status, stderr]).toEqual([0, ""]);
    for (const command of ["start", "gateway", "consumer", "clickhouse", "migrate", "verify", "import"]) {
      expect(stdout).toMatch(new RegExp(`^  ${command} `, "m"));
    }
  });

  it.each([
    [[], "millrace: no command"],
    [["verfy"], "millrace: unknown command verfy. Did you mean verify?"],
    [["constructor"], "millrace: unknown command constructor."],
  ])("answers %j with a usage error", (args, expected) => {
    const { status, stdout, stderr } = run(...args);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(expected);
    expect(stderr).toContain("Usage: millrace <command>");
  });

  it.each(["start", "gateway", "consumer", "clickhouse", "migrate", "verify", "import"])(
    "%s explains its settings with --help and refuses unknown ones",
    (command) => {
      const help = run(command, "--help");
      expect([help.status, help.stderr]).toEqual([0, ""]);
      expect(help.stdout).toContain(`millrace ${command}`);
      const wrong = run(command, "--no-such-setting=1");
      expect([wrong.status, wrong.stdout]).toEqual([2, ""]);
      expect(wrong.stderr).toContain("--no-such-setting: unknown setting");
    },
  );

  it("is quiet when its reader goes away", async () => {
    const child = spawn(process.execPath, [millrace, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    let said = "";
    child.stderr.on("data", (chunk) => {
      said += chunk;
    });
    expect(await once(child, "close")).toEqual([0, null]);
    expect(said).toBe("");
  });
});

it("ends with npm: a SIGTERM to npm ends the process that npm started", async () => {
  const args = ["run", "--silent", "millrace", "--", "agent", "--server", "127.0.0.1:1", "--id", "npm"];
  const npm = spawn("npm", args, { cwd: join(millrace, "../.."), stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(npm, "close");
  try {
    await once(npm.stdout, "data");
    npm.kill("SIGTERM");
    // Its output is closed when nothing that has it runs any more.
    await closed;
  } finally {
    npm.kill("SIGKILL");
  }
});

describe("on an old Node", () => {
  let root: string;
  let child: ChildProcess | undefined;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "millrace-bin-"));
    mkdirSync(join(root, "bin"));
    mkdirSync(join(root, "services"));
    copyFileSync(millrace, join(root, "bin", "millrace.cjs"));
    const versions = '{ ...process.versions, node: "20.20.2" }';
    writeFileSync(
      join(root, "old.cjs"),
      `Object.defineProperty(process, "versions", { value: ${versions} }); Object.defineProperty(process, "version", { value: "v20.20.2" });`,
    );
  });
  afterEach(() => {
    child?.kill("SIGKILL");
    rmSync(root, { recursive: true, force: true });
  });

  const asOld = (...args: string[]) => ["--require", join(root, "old.cjs"), join(root, "bin", "millrace.cjs"), ...args];
  const installNode = () => {
    const place = join(root, "node_modules", `node-${process.platform}-${process.arch}`, "bin");
    mkdirSync(place, { recursive: true });
    symlinkSync(process.execPath, join(place, "node"));
  };

  it("says what is missing when npm brought no Node", () => {
    const { status, stderr } = spawnSync(process.execPath, asOld("start"), { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^millrace needs Node 24\.12 or newer; this is v20\.20\.2\.\n.*npm installs one.*nvm install 24/,
    );
  });

  it("runs with the Node that npm brought: arguments, output and exit code are those of the command", () => {
    installNode();
    writeFileSync(
      join(root, "services", "cli.ts"),
      "const rest: string[] = process.argv.slice(2); process.stdout.write(rest.join()); process.exitCode = 7;",
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, asOld("verify", "--x"), { encoding: "utf8" });
    expect({ status, stdout, stderr }).toEqual({ status: 7, stdout: "verify,--x", stderr: "" });
  });

  it.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("hands %s on and ends as the command ends", async (signal) => {
    installNode();
    writeFileSync(
      join(root, "services", "cli.ts"),
      `process.once("${signal}", () => { process.stdout.write("stopping"); process.exit(5); }); setInterval(() => {}, 1000); process.stdout.write("running");`,
    );
    const shim = spawn(process.execPath, asOld(), { stdio: ["ignore", "pipe", "inherit"] });
    child = shim;
    let output = "";
    shim.stdout.on("data", (chunk) => {
      output += chunk;
    });
    await expect.poll(() => output, { timeout: 10_000 }).toBe("running");
    shim.kill(signal);
    expect(await once(shim, "close")).toEqual([5, null]);
    expect(output).toBe("runningstopping");
  });

  it("ends by the signal that ended the command", async () => {
    installNode();
    writeFileSync(
      join(root, "services", "cli.ts"),
      'process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000);',
    );
    const shim = spawn(process.execPath, asOld(), { stdio: "ignore" });
    child = shim;
    expect(await once(shim, "close")).toEqual([null, "SIGTERM"]);
  });
});
