import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statfsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const MODULE = fileURLToPath(new URL("memory-disk.ts", import.meta.url));
const TMPFS = 0x01021994;

/** TMPDIR of a process after the call, which has ended when this returns. */
function placeIn(env: Record<string, string>): string {
  const script = `const { keepDataInMemory } = await import("${MODULE}"); keepDataInMemory();
    const { mkdtempSync } = await import("node:fs"); const { tmpdir } = await import("node:os");
    mkdtempSync(tmpdir() + "/left-"); process.stdout.write(process.env.TMPDIR ?? "none");`;
  const { PATH = "" } = process.env;
  const args = ["--input-type=module", "-e", script];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", env: { PATH, ...env } });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

it("what tests leave in memory goes with their process, and what a killed run left, with disks of its own, with the next", () => {
  const killed = `/dev/shm/millrace-tests-${2 ** 22 + 1}`; // No process has this number.
  const isMemory = existsSync("/dev/shm") && statfsSync("/dev/shm").type === TMPFS;
  if (isMemory) {
    mkdirSync(`${killed}/disk`, { recursive: true });
    spawnSync("mount", ["-t", "tmpfs", "tmpfs", `${killed}/disk`]); // Only root can; nobody else leaves one.
  }
  const place = placeIn({});
  // Without room there everything stays on disk, as before.
  if (place !== "none") {
    expect(place).toMatch(/^\/dev\/shm\/millrace-tests-\d+$/);
    expect([existsSync(place), existsSync(killed)]).toEqual([false, false]);
  }
});

it("leaves a TMPDIR that is set, and data that are to be kept", () => {
  expect([placeIn({ TMPDIR: "/tmp" }), placeIn({ KEEP_DATA: "true" })]).toEqual(["/tmp", "none"]);
});
