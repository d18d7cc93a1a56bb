// What a process may still do after confine.ts: its data, its port and its own code, and nothing else.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const module = fileURLToPath(new URL("../../services/clickhouse/confine.ts", import.meta.url));

/** Confined, then each attempt by its name; what it threw, or "done". */
const PROBE = `
  const fs = await import("node:fs");
  const net = await import("node:net");
  const { execFileSync } = await import("node:child_process");
  const { confine } = await import(process.env.MODULE);
  const listener = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => listener.once("listening", resolve));
  const { port } = listener.address();
  const reason = confine(process.env.DIRECTORY, 0);
  const attempts = {
    "read a file of the system": () => fs.readFileSync("/etc/passwd"),
    "read its parent's variables": () => fs.readFileSync("/proc/" + process.ppid + "/environ"),
    "list a directory": () => fs.readdirSync("/"),
    "write beside its data": () => fs.writeFileSync(process.env.DIRECTORY + "-other", "x"),
    "run a program": () => execFileSync("/bin/sh", ["-c", "true"]),
    "write its data": () => fs.writeFileSync(process.env.DIRECTORY + "/data", "x"),
    "move and remove its data": () => {
      fs.mkdirSync(process.env.DIRECTORY + "/sub");
      fs.renameSync(process.env.DIRECTORY + "/data", process.env.DIRECTORY + "/sub/data");
      fs.rmSync(process.env.DIRECTORY + "/sub", { recursive: true });
    },
    "read its own code": () => fs.readFileSync(process.env.MODULE),
  };
  const said = { reason };
  for (const [name, attempt] of Object.entries(attempts)) {
    try {
      attempt();
      said[name] = "done";
    } catch (error) {
      said[name] = error.code;
    }
  }
  said["call another program's port"] = await new Promise((resolve) =>
    net.connect(port, "127.0.0.1").once("error", (error) => resolve(error.code)).once("connect", () => resolve("done")),
  );
  said.listen = await new Promise((resolve) =>
    net.createServer().listen(0, "127.0.0.1").once("error", (error) => resolve(error.code)).once("listening", () => resolve("done")),
  );
  console.log(JSON.stringify(said));
  process.exit(0);
`;

it.skipIf(process.platform !== "linux")("leaves a process its data, its port and its code", async () => {
  const parent = await mkdtemp(join(tmpdir(), "millrace-confine-"));
  const env = { ...process.env, MODULE: module, DIRECTORY: join(parent, "clickhouse") };
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", PROBE], { env });
  await rm(parent, { recursive: true, force: true });
  expect(JSON.parse(stdout)).toEqual({
    "read a file of the system": "EACCES",
    "read its parent's variables": "EACCES",
    "list a directory": "EACCES",
    "write beside its data": "EACCES",
    "run a program": "EACCES",
    "write its data": "done",
    "move and remove its data": "done",
    "read its own code": "done",
    "call another program's port": "EACCES",
    listen: "done",
  });
});
