import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { kafkaForTests } from "./kafka.ts";

it("a Kafka that cannot start is tried again and then named with what it printed", async () => {
  const directory = await mkdtemp(join(tmpdir(), "millrace-java-"));
  const java = join(directory, "java");
  // Answers as an installed Java, and then as one without memory.
  await writeFile(java, '#!/bin/sh\n[ "$1" = -version ] && exit 0\necho "cannot reserve the heap"\nexit 1\n');
  await chmod(java, 0o755);
  vi.stubEnv("PATH", `${directory}:${process.env.PATH}`);
  vi.stubEnv("KAFKA_BROKERS", "");
  const tries = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    const kafka = kafkaForTests();
    if (!kafka.available || kafka.kind !== "apache") return;
    await expect(kafka.start()).rejects.toThrow("cannot reserve the heap");
    expect(tries.mock.calls.filter(([line]) => String(line).includes("Starting another"))).toHaveLength(2);
  } finally {
    tries.mockRestore();
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true, force: true });
  }
});
