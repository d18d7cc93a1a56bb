// `npm run check:compose`, `check:k8s`, `check:helm`: the deployment files through the programs that read them elsewhere.
// Fetches those programs into .cache/deploy (Go and Python with their registries are needed); too long for `npm test`.
// Each check is given something wrong as well and fails when that passes.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const tools = join(root, ".cache", "deploy");

const HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0";
/** What docker compose itself reads files with, as a program. */
const COMPOSE = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2";
/** Carries the OpenAPI schemas of Kubernetes. */
const VALIDATE = "kubernetes-validate==1.37.0";
/** The oldest that the chart allows, and the newest that there are schemas of. */
const KUBERNETES = ["1.30", "1.37"];

interface Ended {
  status: number;
  output: string;
}

class CheckError extends Error {
  override readonly name = "CheckError";
}

async function run(program: string, args: readonly string[], cwd = root, env = {}): Promise<Ended> {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const exit = Promise.withResolvers<number>();
  child.once("error", exit.reject);
  child.once("close", (code) => exit.resolve(code ?? 1));
  const [status, stdout, stderr] = await Promise.all([exit.promise, text(child.stdout), text(child.stderr)]);
  return { status, output: stdout + stderr };
}

async function pass(what: string, program: string, args: readonly string[], cwd = root): Promise<string> {
  const { status, output } = await run(program, args, cwd);
  if (status !== 0) throw new CheckError(`${what}: ended with ${status}\n${output}`);
  process.stdout.write(`ok   ${what}\n`);
  return output;
}

/** The other half of a check: it must refuse, and with this reason. */
async function refuse(
  what: string,
  reason: string,
  program: string,
  args: readonly string[],
  cwd = root,
): Promise<void> {
  const { status, output } = await run(program, args, cwd);
  if (status === 0 || !output.includes(reason)) throw new CheckError(`${what}: was not refused\n${output}`);
  process.stdout.write(`ok   refused: ${what}\n`);
}

async function goProgram(module: string, name: string): Promise<string> {
  const program = join(tools, "bin", name);
  if (existsSync(program)) return program;
  const env = { GOBIN: join(tools, "bin"), GOPATH: join(tools, "go"), GOFLAGS: "-modcacherw" };
  const { status, output } = await run("go", ["install", module], root, env);
  await rm(join(tools, "go"), { recursive: true, force: true });
  if (status !== 0) throw new CheckError(`go install ${module}:\n${output}`);
  return program;
}

async function pythonProgram(): Promise<string> {
  const program = join(tools, "python", "bin", "kubernetes-validate");
  if (existsSync(program)) return program;
  const made = await run("python3", ["-m", "venv", join(tools, "python")]);
  const { status, output } =
    made.status === 0 ? await run(join(tools, "python", "bin", "pip"), ["install", VALIDATE]) : made;
  if (status !== 0) throw new CheckError(`pip install ${VALIDATE}:\n${output}`);
  return program;
}

async function checkCompose(scratch: string): Promise<void> {
  const compose = await goProgram(COMPOSE, "cmd");
  const names = ["docker-compose.yml", "docker-compose-build.yml"];
  for (const name of names) await copyFile(join(root, name), join(scratch, name));
  await pass("docker-compose.yml", compose, ["docker-compose.yml"], scratch);
  const merged = await pass("docker-compose.yml with docker-compose-build.yml", compose, names, scratch);
  if (!merged.includes("millrace:local")) throw new CheckError(`docker-compose-build.yml changes nothing:\n${merged}`);
  const right = await readFile(join(root, "docker-compose.yml"), "utf8");
  await writeFile(join(scratch, "wrong.yml"), right.replace("mem_limit:", "memory_limit:"));
  await refuse("an unknown key", "memory_limit", compose, ["wrong.yml"], scratch);
  await writeFile(join(scratch, "wrong.yml"), right.replace("-3000}:3000", "-3000}:http"));
  await refuse("an invalid port", "http", compose, ["wrong.yml"], scratch);
}

async function validate(what: string, files: readonly string[]): Promise<void> {
  const validator = await pythonProgram();
  for (const version of KUBERNETES) {
    const args = ["--strict", "--no-warn", "--quiet", "-k", version, ...files];
    await pass(`${what} against Kubernetes ${version}`, validator, args);
  }
}

async function checkK8s(scratch: string): Promise<void> {
  const directory = join(root, "k8s");
  const plain = (await readdir(directory))
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => join(directory, name));
  await validate("k8s/*.yaml", plain);
  const overlays = join(directory, "kustomize", "overlays");
  for (const overlay of await readdir(overlays)) {
    const rendered = await pass(`kubectl kustomize ${overlay}`, "kubectl", ["kustomize", join(overlays, overlay)]);
    const file = join(scratch, `${overlay}.yaml`);
    await writeFile(file, rendered);
    await validate(`kustomize overlay ${overlay}`, [file]);
  }
  const wrong = join(scratch, "wrong.yaml");
  const gateway = await readFile(join(directory, "30-gateway.yaml"), "utf8");
  const args = ["--strict", "--no-warn", "-k", KUBERNETES[1] ?? "", wrong];
  await writeFile(wrong, gateway.replace("failureThreshold:", "failureTreshold:"));
  await refuse("an unknown field", "failureTreshold", await pythonProgram(), args);
  await writeFile(wrong, gateway.replace("containerPort: 8080", 'containerPort: "8080"'));
  await refuse("a port that is text", "8080", await pythonProgram(), args);
}

async function checkHelm(scratch: string): Promise<void> {
  const helm = await goProgram(HELM, "helm");
  const chart = join(root, "k8s", "chart");
  const common = ["--kube-version", `${KUBERNETES[1]}.0`];
  await pass("helm lint --strict, the defaults", helm, ["lint", "--strict", chart, ...common]);
  for (const values of await readdir(join(chart, "ci"))) {
    const given = ["-f", join(chart, "ci", values), ...common];
    await pass(`helm lint --strict, ${values}`, helm, ["lint", "--strict", chart, ...given]);
    const rendered = await pass(`helm template, ${values}`, helm, [
      "template",
      "release",
      chart,
      "-n",
      "events",
      ...given,
    ]);
    const file = join(scratch, values);
    await writeFile(file, rendered);
    await validate(`the chart with ${values}`, [file]);
  }
  const minimal = ["template", "release", chart, "-f", join(chart, "ci", "minimal.yaml"), ...common];
  await jobFollowsItsContents(helm, minimal);
  await refuse("a value that there is not", "gatway", helm, [...minimal, "--set", "gatway.enabled=true"]);
  await refuse("a number as a setting", "got number", helm, [...minimal, "--set", "config.BATCH_SIZE=5"]);
  await refuse("no brokers", "KAFKA_BROKERS", helm, [...minimal, "--set", "config.KAFKA_BROKERS="]);
  await refuse("no keys", "refuse to start without keys", helm, [
    ...minimal,
    "--set-string",
    "config.ALLOW_ANONYMOUS=false",
  ]);
  await refuse("an ingress without host", "host is required", helm, [
    ...minimal,
    "--set",
    "gateway.ingress.enabled=true",
  ]);
}

/** A Job cannot be changed, and tools that render the chart each time know no revision. */
async function jobFollowsItsContents(helm: string, template: readonly string[]): Promise<void> {
  const nameOf = async (tag: string) => {
    const rendered = await pass(`helm template, image.tag=${tag}`, helm, [
      ...template,
      "--set-string",
      `image.tag=${tag}`,
    ]);
    return /^ {2}name: (\S+-migrate-\S+)$/m.exec(rendered)?.[1];
  };
  const names = [await nameOf("1.0"), await nameOf("1.0"), await nameOf("2.0")];
  if (names[0] === undefined || names[0] !== names[1] || names[0] === names[2]) {
    throw new CheckError(`migrate's Job of images 1.0, 1.0 and 2.0 is named ${names.join(", ")}`);
  }
}

const CHECKS: Record<string, (scratch: string) => Promise<void>> = {
  compose: checkCompose,
  k8s: checkK8s,
  helm: checkHelm,
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(CHECKS, name));
if (unknown.length > 0) {
  process.stderr.write(`check-deploy: there is ${Object.keys(CHECKS).join(", ")}; not ${unknown.join(", ")}\n`);
  process.exitCode = 2;
} else {
  await mkdir(tools, { recursive: true });
  const scratch = await mkdtemp(join(tmpdir(), "millrace-deploy-"));
  try {
    for (const name of asked.length > 0 ? asked : Object.keys(CHECKS)) await CHECKS[name]?.(scratch);
  } catch (error) {
    if (!(error instanceof CheckError)) throw error;
    process.stderr.write(`FAIL ${error.message}\n`);
    process.exitCode = 1;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
