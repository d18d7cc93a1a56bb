// `npm run fuzz:api`: schemathesis against /openapi.json of a standalone that is started for it, for a minute at most.
// Arguments are handed on to schemathesis, such as --seed 7. Needs python3 with venv, and PyPI. Exit code 0: every answer
// was as documented and the process is ready afterwards; 1: not; 2: it could not be run.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type RunningStandalone, startStandalone } from "../test/kit/standalone.ts";

const VERSION = "4.32.5";
const SECONDS_MAX = 60;
const KEY = "fuzz-api-key";

/**
 * What our contracts ask for otherwise: fields that nobody knows become properties, rules are told event by event,
 * POST /batch/ answers other methods by 404, and keys are not asked for where none is set.
 */
const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
  "ignored_auth",
  "allow_header_conformance",
];

const run = promisify(execFile);

/** The environment could not be made; the message says what to do. */
class SetupError extends Error {
  override readonly name = "SetupError";
}

async function install(directory: string): Promise<string> {
  const bin = join(directory, "venv", "bin");
  try {
    await run("python3", ["-m", "venv", join(directory, "venv")]);
    await run(join(bin, "pip"), ["install", "--quiet", `schemathesis==${VERSION}`]);
  } catch (cause) {
    const reason = (cause as Error).message.trim().split("\n").at(-1);
    throw new SetupError(`schemathesis cannot be installed (python3 with venv and PyPI are needed): ${reason}`, {
      cause,
    });
  }
  return join(bin, "schemathesis");
}

/** What the gateway itself calls an error is one, whatever it has answered: it is printed. */
async function startFuzzed(dataDir: string): Promise<RunningStandalone> {
  const standalone = await startStandalone({ dataDir, env: { SECRET_API_KEYS: KEY, LOG_LEVEL: "info" } }).catch(
    (cause) => {
      throw new SetupError(cause.message, { cause });
    },
  );
  standalone.process.onLog((line) => {
    if (line.level === "error" || line.level === "fatal") process.stdout.write(`${JSON.stringify(line)}\n`);
  });
  return standalone;
}

async function main(): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-fuzz-"));
  try {
    const schemathesis = await install(directory);
    await using standalone = await startFuzzed(join(directory, "data"));
    const { url } = standalone;
    const limits = ["--max-time", String(SECONDS_MAX), "--request-timeout", "20", "--suppress-health-check", "all"];
    const asked = [
      "--checks",
      CHECKS.join(","),
      "--header",
      `x-api-key: ${KEY}`,
      "--continue-on-failure",
      "--no-color",
    ];
    const args = ["run", `${url}/openapi.json`, ...limits, ...asked, ...process.argv.slice(2)];
    // Its own directory, so that no report is left behind.
    const child = spawn(schemathesis, args, { cwd: directory, stdio: "inherit" });
    const [status] = (await once(child, "exit")) as [number | null];
    const ready = await fetch(`${url}/readyz`);
    process.stdout.write(`ready afterwards: ${ready.status} ${(await ready.text()).trim()}\n`);
    return status === 0 && ready.status === 200 ? 0 : 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`fuzz:api: ${error.message}\n`);
  process.exitCode = 2;
}
