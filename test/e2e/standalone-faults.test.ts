// What `millrace start` says when it cannot start, and what it does when its disk is full.
import { mkdir, stat, writeFile } from "node:fs/promises";
import net from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { childrenOf } from "../kit/os-processes.ts";
import { FREE_PORTS } from "../kit/processes.ts";
import { createDisk, limitFileSize } from "../kit/small-disk.ts";
import { type RunningStandalone, runMillrace, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory?.[Symbol.asyncDispose]());

const start = (env: Record<string, string>, ...args: string[]) =>
  runMillrace(["start", ...args], { ...FREE_PORTS, ...env });

async function occupiedPort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  return { port: String(port), [Symbol.asyncDispose]: () => new Promise<void>((done) => server.close(() => done())) };
}

describe("a start that cannot succeed ends with a sentence and its remedy", () => {
  it.each(Object.keys(FREE_PORTS))("when the port of %s is taken", async (setting) => {
    await using taken = await occupiedPort();
    const { code, stdout, stderr } = await start({ DATA_DIR: join(directory.path, "port"), [setting]: taken.port });
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`^millrace start: .*${taken.port}.* set ${setting} to another port.*\n$`));
    expect(stdout).not.toContain('"stack"');
  });

  it("when a file is where the data directory should be", async () => {
    const file = join(directory.path, "file");
    await writeFile(file, "");
    for (const path of [file, join(file, "below")]) {
      const { code, stderr } = await start({ DATA_DIR: path });
      expect(code).toBe(1);
      expect(stderr).toContain(`millrace start: Cannot create the data directory ${path}`);
      expect(stderr).toMatch(/move the file away that is in its place, or set DATA_DIR to another\.$/m);
    }
  });

  it("when the data directory is not writable", async () => {
    const { code, stderr } = await start({ DATA_DIR: await unwritable() });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^millrace start: .* writable.* set DATA_DIR to another/m);
  });

  it("when another one runs on the same data directory, which is not disturbed", async () => {
    const dataDir = join(directory.path, "shared");
    await using first = await startStandalone({ dataDir });
    const { code, stderr } = await start({ DATA_DIR: dataDir });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^millrace start: .* is in use by another process: stop that one, or set DATA_DIR/m);
    expect((await fetch(`${first.url}/readyz`)).status).toBe(200);
    expect((await post(first)).status).toBe(200);
  });

  it("says which variables it does not read, and keeps its log from other users", async () => {
    const dataDir = join(directory.path, "modes", "new");
    const env = { KAFKA_BROKERS: "kafka:9092", CLICKHOUSE_URL: "http://app:hunter2@db:8123" };
    await using running = await startStandalone({ dataDir, env });
    const said = running.process.lines.join("\n");
    expect(said).toContain("does not read these variables");
    expect(said).toMatch(/KAFKA_BROKERS.*CLICKHOUSE_URL/);
    expect(said).not.toContain("hunter2");
    const modeOf = async (path: string) => (await stat(join(dataDir, path))).mode & 0o777;
    expect(await modeOf(".")).toBe(0o700);
    for (const name of ["log.sqlite", "log.sqlite-wal", "owner.key"]) expect(await modeOf(name), name).toBe(0o600);
    expect(await modeOf("clickhouse")).toBe(0o700);
  });

  it("when settings are wrong, with all of them named at once", async () => {
    const env = { PORT: "eighty", FLUSH_INTERVAL: "5parsecs", HOST: "0.0.0.0", DATA_DIR: join(directory.path, "none") };
    const { code, stdout, stderr } = await start(env, "--batch-sise", "5");
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("millrace start: 6 settings are not usable:");
    expect(stderr).toContain("--batch-sise: unknown setting. Did you mean --batch-size?");
    expect(stderr).toContain("PORT=eighty: expected a port number, 0 to 65535");
    expect(stderr).toContain("FLUSH_INTERVAL=5parsecs: expected a duration");
    expect(stderr).toMatch(/HOST=0\.0\.0\.0: .*set PUBLIC_API_KEYS or SECRET_API_KEYS, or HOST=127\.0\.0\.1/);
    expect(stderr).toMatch(/HOST=0\.0\.0\.0: .*set STATS_TOKEN, or HOST=127\.0\.0\.1/);
    expect(stderr).toMatch(/HOST=0\.0\.0\.0: .*set RELAY_TOKEN, or HOST=127\.0\.0\.1/);
  });
});

/** No permission stops root, but a file system that makes no directories does. */
async function unwritable(): Promise<string> {
  if (process.getuid?.() === 0) return "/sys/millrace";
  const path = join(directory.path, "unwritable");
  await mkdir(path, { mode: 0o555 });
  return path;
}

function post({ url }: RunningStandalone): Promise<Response> {
  const body = JSON.stringify({ event_type: "full_disk", source: "test", created_at: "2026-03-27T12:00:00Z" });
  return fetch(`${url}/events`, { method: "POST", headers: { "content-type": "application/json" }, body });
}

describe("a full disk", () => {
  it("costs no accepted event: new ones are refused with what to do, and taken again when there is room", async () => {
    await using disk = await createDisk(48);
    await using standalone = await startStandalone({ dataDir: disk.dataDir });
    const { pid } = standalone.process;
    let accepted = 0;
    const send = async () => {
      const { status } = await post(standalone);
      if (status === 200) accepted++;
      return status;
    };
    for (let i = 0; i < 20; i++) expect(await send()).toBe(200);
    const filled = await disk.fill(pid);
    // What is left of the last page may still take some.
    await vi.waitFor(async () => expect(await send()).toBe(503), { timeout: 10_000, interval: 1 });

    const refused = await post(standalone);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await refused.json()).toEqual({ error: expect.stringContaining("send the request again") });
    const ready = await fetch(`${standalone.url}/readyz`);
    expect(ready.status).toBe(503);
    expect(((await ready.json()) as { checks: { log: string } }).checks.log).toMatch(/free space on .*DATA_DIR/);

    await filled.free();
    await vi.waitFor(async () => expect(await send()).toBe(200), { timeout: 10_000, interval: 50 });
    const count = "SELECT count() FROM millrace.events WHERE event = 'full_disk'";
    await vi.waitFor(async () => expect(await standalone.query(count)).toBe(String(accepted)), { timeout: 30_000 });
    await vi.waitFor(async () => expect((await fetch(`${standalone.url}/readyz`)).status).toBe(200));
    expect(await runMillrace(["verify", "--wait", "30s"], standalone.env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`verify: ${accepted} offsets accounted for, 0 missing, 0 doubled`),
    });
    expect(await standalone.process.stop("SIGINT")).toBe(0);
  });
});

it("a disk that fails under ClickHouse costs no accepted event, and needs nobody", async () => {
  await using standalone = await startStandalone({ dataDir: join(directory.path, "failing") });
  const [clickhouse = 0] = await childrenOf(standalone.process.pid);
  const send = async (events: number) => {
    for (let i = 0; i < events; i++) expect((await post(standalone)).status).toBe(200);
  };
  const rows = () => standalone.query("SELECT count() FROM millrace.events WHERE event = 'full_disk'").catch(String);
  await send(10);
  await vi.waitFor(async () => expect(await rows()).toBe("10"), { timeout: 30_000 });
  await limitFileSize(clickhouse, "0");
  await send(10);
  await vi.waitFor(async () => expect(await rows()).toBe("20"), { timeout: 30_000 });
  expect(standalone.process.lines.join("\n")).toContain("a file could not be written");
  expect(await runMillrace(["verify", "--wait", "30s"], standalone.env)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("verify: 20 offsets accounted for, 0 missing, 0 doubled"),
  });
});
