// @millrace/client as its users get it: packed, installed into an empty folder, type-checked, bundled, and its README run.
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { build, type Rolldown } from "vite";
import { afterAll, beforeAll, expect, it } from "vitest";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { StatsService } from "#gen/millrace/stats/v1/stats_pb.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { isExpectedOutput } from "../kit/readme.ts";
import { installSdk, must, typeCheck } from "../kit/sdk-packages.ts";
import { run } from "../kit/standalone.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PACKAGE = join(ROOT, "sdk", "node");
const TARBALL_BYTES_MAX = 64_000;
/** Of the client alone, minified, without its dependencies. */
const BUNDLE_BYTES_MAX = 36_500;

let folder: string;
let tarball: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-package-"));
  ({ client: tarball = "" } = await installSdk(folder, ["node"], []));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it("the tarball has JavaScript, types, README and license, and no sources, within its size", async () => {
  const files = await readdir(join(folder, "node_modules", "@millrace", "client"), { recursive: true });
  expect(files).toEqual(
    expect.arrayContaining(["README.md", "package.json", "dist/index.js", "dist/index.d.ts", "LICENSE"]),
  );
  expect(files.filter((name) => /(?<!\.d)\.ts$|\.test\.|^src|^test|^scripts/.test(name))).toEqual([]);
  const { size } = await stat(tarball);
  process.stdout.write(`@millrace/client: tarball ${size} bytes\n`);
  expect(size).toBeLessThan(TARBALL_BYTES_MAX);
});

interface Example {
  code: string;
  output: string;
}

async function examples(): Promise<Example[]> {
  const text = await readFile(join(PACKAGE, "README.md"), "utf8");
  const blocks = text.matchAll(/```ts\n(?<code>.*?)```\n+```text\n(?<output>.*?)```/gs);
  const found = Array.from(blocks, ({ groups }) => ({ code: groups?.code ?? "", output: groups?.output ?? "" }));
  // A block without its output would silently not be run.
  expect(found).toHaveLength(text.split("```ts\n").length - 1);
  return found;
}

it.each(["bundler", "nodenext"])(
  "type-checks strictly with moduleResolution %s, its README included",
  async (resolution) => {
    const project = join(folder, resolution);
    await mkdir(project);
    for (const [index, { code }] of (await examples()).entries())
      await writeFile(join(project, `example${index}.ts`), code);
    const wrong = `import { createClient } from "@millrace/client";
export const client = createClient({ url: "http://localhost:8080" });
// @ts-expect-error a name is required
client.capture({ distinctId: "ada" });
// @ts-expect-error there is no such transport
createClient({ url: "", transport: "soap" });
export const verdicts: Promise<{ accepted: number; rejected: { code: string; retryable: boolean }[] }> = client.publish({ event: "e" });
`;
    await writeFile(join(project, "wrong.ts"), wrong);
    await typeCheck(project, resolution, {
      // The types of @connectrpc/connect name HeadersInit, which is the DOM's.
      lib: ["es2022", "dom", "esnext.disposable"],
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules", "@types")],
    });
  },
);

it("a bundle of createClient has neither relay nor stats in it, within its size", async () => {
  const entry = join(folder, "entry.js");
  await writeFile(entry, 'import { createClient } from "@millrace/client";\nconsole.log(createClient);\n');
  const built = (await build({
    root: folder,
    configFile: false,
    logLevel: "silent",
    build: {
      write: false,
      minify: true,
      lib: { entry, formats: ["es"], fileName: "bundle" },
      rolldownOptions: { external: [/^node:/, /^@connectrpc/, /^@bufbuild/] },
    },
  })) as Rolldown.RolldownOutput[];
  const code = built.flatMap(({ output }) => output.map((part) => (part.type === "chunk" ? part.code : ""))).join("");
  process.stdout.write(`@millrace/client: createClient alone ${code.length} bytes minified\n`);
  expect(code).toContain("spool");
  expect(code).not.toMatch(/unable to identify with the server|RelayRefusedError|node:tls|StatsService/);
  expect(code.length).toBeLessThan(BUNDLE_BYTES_MAX);
});

it("each example of the README prints what the README says", async () => {
  await using gateway = await startTestGateway({ secretApiKeys: ["sk_1"] });
  await using stats = await startStats();
  const programs = (await examples()).map(async ({ code, output }, index) => {
    const file = join(folder, `run${index}.ts`);
    const own = code
      .replaceAll("http://localhost:8080", gateway.url)
      .replaceAll("http://localhost:8081", stats.url)
      .replaceAll("port: 3001", "port: 1")
      .replaceAll("./spool", join(folder, "spool"));
    await writeFile(file, own);
    const { code: exitCode, stdout, stderr } = await run(process.execPath, [file]);
    return { index, exitCode, printed: `${stderr}${stdout}`, output };
  });
  for (const { index, exitCode, printed, output } of await Promise.all(programs)) {
    expect(exitCode, printed).toBe(0);
    expect(isExpectedOutput(output, printed), `example ${index} printed\n${printed}`).toBe(true);
  }
  const events = (await gateway.events()).map(({ event }) => event).sort();
  expect(events).toEqual(["invoice_sent", "order_paid", "signed_up"]);
});

it("a program that only captures and ends has its events sent", async () => {
  await using gateway = await startTestGateway();
  const program = `import { createClient } from "@millrace/client";
const client = createClient({ url: ${JSON.stringify(gateway.url)}, intervalMs: 60_000 });
for (let n = 0; n < 1500; n++) client.capture({ event: "e" + n });`;
  await writeFile(join(folder, "ends.js"), program);
  await must(process.execPath, [join(folder, "ends.js")]);
  expect(await gateway.events()).toHaveLength(1_500);
});

/** Stands in for the stats service with one answer each: what is tested is the client's side of the contract. */
async function startStats() {
  const handler = connectNodeAdapter({
    routes(router) {
      router.rpc(StatsService.method.getLatest, ({ metric }) => ({
        results: metric === "cpu_used" ? [{ tags: { host: "web-1" }, values: [87.5] }] : [],
      }));
      router.rpc(AlertService.method.listAlerts, () => ({ alerts: [] }));
    },
  });
  const server = createServer(handler);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
