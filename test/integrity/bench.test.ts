import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const BENCH = fileURLToPath(new URL("../../bench/main.ts", import.meta.url));

it("the bench runs, counts rows and prints its table", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [BENCH, "--quick", "--only", "gateway-sqlite"]);
  const rows = stdout.split("\n").filter((line) => line.startsWith("| gateway "));
  expect(rows.map((row) => row.split("|")[1]?.trim())).toEqual([
    "gateway connect-json on sqlite",
    "gateway connect-protobuf on sqlite",
    "gateway connect-struct on sqlite",
    "gateway grpc on sqlite",
    "gateway events on sqlite",
  ]);
  for (const row of rows) {
    const [, , acked, counted] = row.split("|").map((cell) => cell.trim());
    expect(Number(counted)).toBeGreaterThan(0);
    expect(counted).toBe(acked);
  }
});

it("names the cases when none was meant", async () => {
  const failure = promisify(execFile)(process.execPath, [BENCH, "--only", "nothing"]);
  await expect(failure).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining("gateway-kafka") });
});
