// The image without Docker: the tree that the Dockerfile makes, and services started in it as its entry point starts them.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  assemble,
  IMAGE_SERVICES,
  installedPackages,
  type Recipe,
  readRecipe,
  startFault,
} from "../../scripts/image-report.ts";
import { ROOT, read, readYaml } from "../kit/deploy.ts";
import { freePort } from "../kit/free-port.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { run } from "../kit/standalone.ts";

const recipe: Recipe = readRecipe(read("Dockerfile"));
let app: string;

beforeAll(async () => {
  app = await mkdtemp(join(tmpdir(), "millrace-image-"));
  await assemble(app, recipe);
});

afterAll(() => rm(app, { recursive: true, force: true }));

const HEALTH_PORTS = { gateway: "PORT", consumer: "CONSUMER_PORT", relay: "RELAY_HTTP_PORT", stats: "STATS_PORT" };

/** In the assembled tree, with no broker and no ClickHouse to be found, tracing on. */
function start(service: string, env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, [...recipe.entryPoint, service], {
    cwd: app,
    env: {
      NODE_ENV: "production",
      KAFKA_BROKERS: "127.0.0.1:9",
      CLICKHOUSE_URL: "http://127.0.0.1:9",
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
      ALLOW_ANONYMOUS: "true",
      RELAY_PORT: "0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

describe("the image", () => {
  it("is pinned, not root, and has node itself as process 1", () => {
    const dockerfile = read("Dockerfile");
    expect(dockerfile).toMatch(/^ARG NODE_IMAGE=node:24\.\d+\.\d+-\w+-slim$/m);
    const bases = [...dockerfile.matchAll(/^FROM (?:--platform=\S+ )?\$\{(\w+)\}/gm)].map(([, image]) => image);
    expect(bases).toEqual(Array(3).fill("NODE_IMAGE"));
    expect(dockerfile).toMatch(/^USER 1000:1000$/m);
    expect(dockerfile).toMatch(/^HEALTHCHECK /m);
    expect(recipe.npm).toEqual(expect.arrayContaining(["ci", "--omit=dev", "--omit=optional"]));
    expect(recipe.entryPoint).toContain("bin/millrace.cjs");
  });

  it("copies what exists, and what .dockerignore lets through", () => {
    expect(recipe.copies.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    const allowed = [...read(".dockerignore").matchAll(/^!(.+)$/gm)].map(([, path]) => path);
    expect([...recipe.copies, "package-lock.json"].filter((path) => !allowed.includes(path))).toEqual([]);
  });

  it("has no development or optional dependency, and would show one", async () => {
    const names = async () => (await installedPackages(app)).filter(({ unwanted }) => unwanted).map(({ path }) => path);
    expect(await names()).toEqual([]);
    for (const stranger of ["typescript", "knip"])
      await cp(
        join(ROOT, "node_modules", stranger, "package.json"),
        join(app, "node_modules", stranger, "package.json"),
      );
    expect(await names()).toEqual(expect.arrayContaining(["node_modules/knip", "node_modules/typescript"]));
    for (const stranger of ["typescript", "knip"]) await rm(join(app, "node_modules", stranger), { recursive: true });
  });

  it("has every service, and the one that is not for it says so", async () => {
    const faults = await Promise.all(IMAGE_SERVICES.map((service) => startFault(app, recipe, service)));
    expect(faults).toEqual(IMAGE_SERVICES.map(() => undefined));
    expect(await startFault(app, recipe, "gatway")).toContain("unknown command gatway");
  });

  it("runs no TypeScript, and names source files in stack traces where it is asked to", async () => {
    expect(
      (await readdir(app, { recursive: true })).filter((path) => /^(?!node_modules|dist\/console).*\.ts$/.test(path)),
    ).toEqual([]);
    const thread = "lib/eventlog/sqlite/worker.ts";
    const line =
      1 +
      read(thread)
        .split("\n")
        .findIndex((text) => text.includes("runs as a worker thread only"));
    const script = join(app, "dist/bundle/lib-eventlog-sqlite-worker.js");
    const { stderr } = await run(process.execPath, ["--enable-source-maps", script]);
    expect(stderr).toContain(`${thread}:${line}`);
  });

  it.concurrent.each(Object.entries(HEALTH_PORTS))(
    "has a %s that lives without its neighbours and ends with 0 at SIGTERM",
    async (service, setting) => {
      const port = await freePort();
      const child = start(service, { [setting]: String(port) });
      const output = Promise.all([child.stdout, child.stderr].map((stream) => (stream ? text(stream) : "")));
      const ended = once(child, "exit");
      try {
        const alive = async () => expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
        await vi.waitFor(alive, { timeout: 20_000, interval: 50 });
        const health = await run(process.execPath, [
          join(app, "deploy/healthcheck.mjs"),
          `http://127.0.0.1:${port}/readyz`,
        ]);
        expect(health.code, health.stderr).toBe(1);
        expect(health.stderr).toMatch(/^503 \{"status":"not ready"/);
        child.kill("SIGTERM");
        const [code, signal] = await ended;
        expect({ code, signal }, (await output).join("\n")).toEqual({ code: 0, signal: null });
      } finally {
        child.kill("SIGKILL");
      }
    },
  );

  it("is healthy when its service is ready, and not when nothing answers or there is no service", async () => {
    const script = join(app, "deploy/healthcheck.mjs");
    await using gateway = await startTestGateway();
    expect(await run(process.execPath, [script, `${gateway.url}/readyz`])).toEqual({ code: 0, stdout: "", stderr: "" });
    expect((await run(process.execPath, [script, `http://127.0.0.1:${await freePort()}/readyz`])).code).toBe(1);
    expect((await run(process.execPath, [script])).stderr).toContain("process 1 is not one of gateway");
  });
});

describe("what runs elsewhere", () => {
  const scripts = (JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts;

  interface Job {
    needs?: string | string[];
    uses?: string;
    steps?: { uses?: string; run?: string }[];
  }
  const jobsOf = (path: string) => readYaml<{ jobs: Record<string, Job> }>(read(path))[0]?.jobs ?? {};

  it.each(["audit", "ci", "publish"].map((name) => `.github/workflows/${name}.yml`))(
    "%s uses actions by version, and scripts that there are",
    (path) => {
      const steps = Object.values(jobsOf(path)).flatMap((job) => job.steps ?? []);
      expect(steps.length).toBeGreaterThan(2);
      expect(steps.flatMap(({ uses }) => (uses === undefined || /@v\d/.test(uses) ? [] : [uses]))).toEqual([]);
      const called = steps.flatMap(({ run = "" }) =>
        [...run.matchAll(/npm run ([\w:-]+)/g)].map(([, name = ""]) => name),
      );
      expect(called.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
    },
  );

  it("nothing is published before ci has passed", () => {
    const { ci, ...others } = jobsOf(".github/workflows/publish.yml");
    expect(ci?.uses).toBe("./.github/workflows/ci.yml");
    const waits = (name: string): boolean =>
      [others[name]?.needs ?? []].flat().some((needed) => needed === "ci" || waits(needed));
    expect(Object.keys(others)).toEqual(["image", "packages", "release"]);
    expect(Object.keys(others).filter((name) => !waits(name))).toEqual([]);
  });

  it.each(["railway.json", "deploy/railway/consumer.json", "deploy/railway/relay.json", "deploy/railway/stats.json"])(
    "%s starts a service as the image does",
    (path) => {
      const { build, deploy } = JSON.parse(read(path)) as {
        build: { builder: string; dockerfilePath: string };
        deploy: { startCommand: string; preDeployCommand?: string[] };
      };
      expect(build).toEqual({ builder: "DOCKERFILE", dockerfilePath: "Dockerfile" });
      const entryPoint = ["node", ...recipe.entryPoint].join(" ");
      for (const command of [deploy.startCommand, ...(deploy.preDeployCommand ?? [])]) {
        expect(command.startsWith(`${entryPoint} `), command).toBe(true);
        expect(IMAGE_SERVICES).toContain(command.slice(entryPoint.length + 1));
      }
    },
  );
});
