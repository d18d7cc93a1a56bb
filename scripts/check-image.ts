// `npm run check:image`: builds the Dockerfile without Docker and runs every service from the image, as user 1000 and process
// 1, on a root that is read only, with no network but loopback: migrate, then gateway, consumer, relay and stats against a
// Kafka broker and a ClickHouse endpoint, through verify:e2e, to their ends by SIGTERM. Prints what is in the image. Exit
// code 0: all is as it should be; 1: it is not; 2: it cannot be tried here.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startTestClickHouse } from "../test/kit/clickhouse.ts";
import { readYaml } from "../test/kit/deploy.ts";
import { kafkaForTests } from "../test/kit/kafka.ts";
import { hasJars } from "../test/kit/kafka-java.ts";
import { measureSlowness } from "../test/kit/patience.ts";
import { run } from "../test/kit/standalone.ts";
import { until } from "../test/kit/until.ts";
import { buildImage, type Image } from "./image/build.ts";
import { type Container, startContainer } from "./image/container.ts";
import { installedPackages } from "./image-report.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SELF = fileURLToPath(import.meta.url);
const MB = 1_000_000;
const OVER_BASE_MAX = 90 * MB;
const PACKAGES_SHOWN = 8;
const PROGRAMS = ["buildah", "mmdebstrap", "crun", "ip", "unshare"];

const SERVICES = ["gateway", "consumer", "relay", "stats"] as const;
/** Listen on every address of both families; the others on those of IPv4, as the image has it. */
const ON_IPV6 = new Set<string>(["consumer", "stats"]);
const UID = 1000;
/** One in the network of the containers, whatever the environment names. */
const OWN_BROKER = { ...process.env, KAFKA_BROKERS: "" };

/** Run in the image: directories and files that its user can write to; /proc and /dev are the runtime's. */
const FIND_WRITABLE = `
  const { accessSync, constants, readdirSync } = require("node:fs");
  const writable = (path) => { try { accessSync(path, constants.W_OK); return true; } catch { return false; } };
  const walk = (directory) => { try { return readdirSync(directory, { withFileTypes: true }); } catch { return []; } };
  const queue = ["/"];
  for (let at; (at = queue.pop()) !== undefined; ) {
    if (writable(at)) console.log(at);
    for (const entry of walk(at)) {
      const path = (at === "/" ? "" : at) + "/" + entry.name;
      if (entry.isDirectory()) { if (path !== "/proc" && path !== "/dev") queue.push(path); }
      else if (entry.isFile() && writable(path)) console.log(path);
    }
  }`;

/** Everything that is mounted or started in them ends with them. */
const NAMESPACES = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

class CheckError extends Error {
  override readonly name = "CheckError";
}

/** Whether the image can be built and run here; `install` is there where packages are all that is missing. */
export type ImageForTests = { available: true } | { available: false; reason: string; install?: string };

export function imageForTests(uid = process.getuid?.()): ImageForTests {
  const isDebian = existsSync("/etc/debian_version");
  if (uid !== 0 || !isDebian) return { available: false, reason: "it needs root on Debian; elsewhere: docker build ." };
  const missing = PROGRAMS.filter((program) => spawnSync("which", [program]).status !== 0);
  const install = "apt-get install buildah mmdebstrap crun iproute2";
  if (missing.length > 0) return { available: false, reason: `no ${missing.join(", no ")}`, install };
  if (spawnSync("unshare", [...NAMESPACES, "--net", "true"]).status !== 0)
    return { available: false, reason: "it needs namespaces of its own, which may not be made here" };
  const kafka = kafkaForTests(OWN_BROKER);
  return kafka.available ? { available: true } : { available: false, reason: kafka.reason, install: kafka.reason };
}

function ok(what: string): void {
  process.stdout.write(`ok   ${what}\n`);
}

function expectThat(what: string, holds: boolean, found: unknown): void {
  if (!holds) throw new CheckError(`${what}: ${typeof found === "string" ? found : JSON.stringify(found)}`);
}

async function main(): Promise<number> {
  const image = imageForTests();
  if (!image.available) {
    process.stderr.write(`check:image cannot run here: ${[image.reason, image.install].filter(Boolean).join("; ")}\n`);
    return 2;
  }
  // How long the stages wait.
  measureSlowness();
  const directory = await mkdtemp(join(tmpdir(), "millrace-image-"));
  try {
    return within(["unshare", ...NAMESPACES], "build", directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** This script once more, under another program. */
function within([program = "", ...args]: readonly string[], stage: string, given: string): number {
  const { status } = spawnSync(program, [...args, process.execPath, SELF, stage, given], { stdio: "inherit" });
  return status ?? 1;
}

async function build(directory: string): Promise<number> {
  const begun = performance.now();
  const image = await buildImage(directory);
  ok(`built by buildah in ${seconds(begun)} s, health check and user included`);
  await weigh(image);
  // Fetches what the broker needs while there is a network.
  const kafka = kafkaForTests(OWN_BROKER);
  if (!hasJars() && kafka.available) await (await kafka.start())[Symbol.asyncDispose]();
  return within(["unshare", "--net"], "run", JSON.stringify(image));
}

/** Prints sizes and the largest packages. */
async function weigh({ rootfs, baseBytes, bytes }: Image): Promise<void> {
  const packages = await installedPackages(join(rootfs, "app"), join(ROOT, "package-lock.json"));
  const unwanted = packages.filter((each) => each.unwanted).map(({ path }) => path);
  expectThat("packages that only development needs", unwanted.length === 0, unwanted);
  const over = bytes - baseBytes;
  expectThat("MB over the base, more than 90", over <= OVER_BASE_MAX, megabytes(over));
  ok(`${megabytes(bytes)} MB, ${megabytes(over)} over its base; ${packages.length} packages, the largest:`);
  for (const { path, version, bytes } of packages.slice(0, PACKAGES_SHOWN))
    process.stdout.write(
      `       ${megabytes(bytes).padStart(5)} MB ${path.split("node_modules/").at(-1)} ${version}\n`,
    );
  // With a root that can be written to: what is everybody's must be for temporary files.
  const loose = await run("find", [
    rootfs,
    "!",
    "-type",
    "l",
    "(",
    "-uid",
    `${UID}`,
    "-o",
    "-perm",
    "/o+w",
    ")",
    "!",
    "-perm",
    "-1000",
  ]);
  expectThat("files that the image's user may change", loose.stdout === "", loose.stdout);
}

/** In a network of its own, with the image's file system still mounted. */
async function runAll(image: Image): Promise<number> {
  await mustRun("ip", ["link", "set", "lo", "up"]);
  // crun insists on the second version of control groups, and uses none of them.
  await mustRun("mount", ["-t", "cgroup2", "none", "/sys/fs/cgroup"]);
  const kafka = kafkaForTests(OWN_BROKER);
  if (!kafka.available) throw new CheckError(kafka.reason);
  const [broker, clickhouse] = await Promise.all([kafka.start(), startTestClickHouse()]);
  await using stack = new AsyncDisposableStack();
  stack.use(broker);
  stack.use(clickhouse);
  const env = {
    KAFKA_BROKERS: broker.brokers.join(","),
    KAFKA_REPLICATION_FACTOR: "1",
    CLICKHOUSE_URL: clickhouse.url,
    ALLOW_ANONYMOUS: "true",
  };
  const migrate = await startContainer(image, { name: "migrate", args: ["migrate"], env });
  const { code, output } = await migrate.ended;
  expectThat("migrate", code === 0, output);
  ok("migrate: exit code 0");
  const containers = await Promise.all(
    SERVICES.map((name) => {
      const own: Record<string, string> = ON_IPV6.has(name) ? { ...env, HOST: "::" } : env;
      return startContainer(image, { name, args: [name], env: own });
    }),
  );
  for (const container of containers) stack.use(container);
  for (const container of containers) await isHealthy(container, image);
  for (const container of containers) await isConfined(container);
  await writesNowhere(containers[0] as Container);
  const verified = await run(process.execPath, [
    ...[join(ROOT, "scripts/verify-e2e.ts"), "--clickhouse-url", clickhouse.url, "--events", "64"],
    ...["--relay", "127.0.0.1:3001", "--stats-url", "http://[::1]:8081"],
  ]);
  expectThat("verify:e2e", verified.code === 0, verified.stdout + verified.stderr);
  ok(`verify:e2e: ${verified.stdout.trim().replaceAll("\n", "; ")}`);
  for (const container of containers) await endsInTime(container, image);
  return 0;
}

/** By the image's own health check, which asks what process 1 says it is. */
async function isHealthy(container: Container, { config }: Image): Promise<void> {
  let last = "";
  const healthy = async () => {
    const { code, stdout, stderr } = await container.exec(config.Healthcheck.Test.slice(1));
    last = stdout + stderr;
    return code === 0;
  };
  const early = container.ended.then(({ output }) => {
    throw new CheckError(`${container.name} has ended: ${output}`);
  });
  early.catch(() => undefined);
  await Promise.race([early, until(healthy, `${container.name} is healthy`)]).catch((error: Error) => {
    throw new CheckError(`${error.message}: ${last}`);
  });
  ok(`${container.name}: healthy${ON_IPV6.has(container.name) ? ", listening on ::" : ""}`);
}

/** What the kernel says of its process. */
async function isConfined(container: Container): Promise<void> {
  const at = `/proc/${await container.pid()}`;
  const status = await readFile(join(at, "status"), "utf8");
  const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(status)?.[1] ?? "";
  const { name } = container;
  expectThat(
    `${name}: user`,
    field("Uid")
      .split("\t")
      .every((id) => Number(id) === UID),
    field("Uid"),
  );
  expectThat(
    `${name}: group`,
    field("Gid")
      .split("\t")
      .every((id) => Number(id) === UID),
    field("Gid"),
  );
  expectThat(`${name}: process 1`, field("NSpid").endsWith("\t1"), field("NSpid"));
  expectThat(`${name}: capabilities`, Number.parseInt(field("CapBnd"), 16) === 0, field("CapBnd"));
  const root = (await readFile(join(at, "mounts"), "utf8")).split("\n").find((line) => line.split(" ")[1] === "/");
  expectThat(`${name}: root`, /^\S+ \/ \S+ ro[, ]/.test(root ?? ""), root);
  const interfaces = (await readFile(join(at, "net/dev"), "utf8")).match(/^ *\w+(?=:)/gm)?.map((found) => found.trim());
  expectThat(`${name}: network`, interfaces?.join() === "lo", interfaces);
  const mb = ((Number.parseInt(field("VmRSS"), 10) * 1024) / MB).toFixed(0);
  ok(`${name}: user and group ${UID}, process 1, no capability, root read only, loopback only; ${mb} MB resident`);
}

async function writesNowhere(container: Container): Promise<void> {
  const { code, stdout, stderr } = await container.exec(["node", "-e", FIND_WRITABLE]);
  expectThat("paths that can be written to", code === 0 && stdout === "", stdout + stderr);
  ok("no directory and no file can be written to");
}

async function endsInTime(container: Container, image: Image): Promise<void> {
  const begun = performance.now();
  await container.signal(image.config.StopSignal);
  const { code, output } = await container.ended;
  const took = performance.now() - begun;
  expectThat(`${container.name} at ${image.config.StopSignal}`, code === 0, `exit code ${code}: ${output}`);
  const max = graceMs(container.name);
  expectThat(`${container.name}: seconds to its end`, took < max, `${took / 1000} of ${max / 1000}`);
  expectThat(`${container.name}: its log`, !/EROFS|EACCES/.test(output), output);
  ok(`${container.name}: ended with 0, ${(took / 1000).toFixed(1)} s after ${image.config.StopSignal}`);
}

/** After so long Docker kills it. */
function graceMs(service: string): number {
  const [compose] = readYaml<{ services: Record<string, { stop_grace_period: string }> }>(
    readFileSync(join(ROOT, "docker-compose.yml"), "utf8"),
  );
  return 1000 * Number.parseInt(compose?.services[service]?.stop_grace_period ?? "", 10);
}

async function mustRun(program: string, args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await run(program, args);
  if (code !== 0) throw new CheckError(`${program} ${args.join(" ")}: ${stdout}${stderr}`);
}

function megabytes(bytes: number): string {
  return (bytes / MB).toFixed(1);
}

function seconds(begun: number): string {
  return ((performance.now() - begun) / 1000).toFixed(0);
}

async function stage(name: string | undefined, given = ""): Promise<number> {
  try {
    if (name === "build") return await build(given);
    if (name === "run") return await runAll(JSON.parse(given) as Image);
    return await main();
  } catch (error) {
    if (!(error instanceof CheckError)) throw error;
    process.stderr.write(`FAIL ${error.message}\n`);
    return 1;
  }
}

if (import.meta.main) process.exitCode = await stage(process.argv[2], process.argv[3]);
