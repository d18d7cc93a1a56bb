// The gateway that a contract suite is held against: one in the test's process, or, in vitest's project "standalone",
// the one within a really started `millrace start`.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "vitest";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { IngressConfig } from "../../services/gateway/config.ts";
import { startTestGateway, type TestGateway } from "./gateway.ts";
import { startStandalone } from "./standalone.ts";

const ON_STANDALONE = process.env.CONTRACT_GATEWAY === "standalone";

type ContractSettings = Partial<
  Pick<IngressConfig, "publicApiKeys" | "secretApiKeys" | "allowedOrigins" | "maxBatchBytes" | "maxEventsPerBatch">
>;

type ContractGateway = Pick<TestGateway, "port" | "url" | "lines" | "stored" | "events" | keyof AsyncDisposable>;

/** For tests that reach into the gateway's process: on the standalone they do not exist. */
export function itInProcess(name: string, test: () => Promise<void>): void {
  if (!ON_STANDALONE) it(name, test);
}

/** `inProcess` is the same gateway where it is in this process. */
export async function startContractGateway(
  settings: ContractSettings,
): Promise<ContractGateway & { inProcess?: TestGateway }> {
  if (ON_STANDALONE) return startOnStandalone(settings);
  const gateway = await startTestGateway(settings);
  return { ...gateway, inProcess: gateway };
}

async function startOnStandalone(settings: ContractSettings): Promise<ContractGateway> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-contract-"));
  stack.defer(() => rm(dataDir, { recursive: true, force: true }));
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(settings)) {
    env[name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()] = String(value);
  }
  const standalone = stack.use(await startStandalone({ dataDir, env }));
  const log = await createSqliteLog({ file: join(dataDir, "log.sqlite"), readOnly: true });
  stack.use(log);
  const owned = stack.move();

  async function stored(): Promise<StoredRecord[]> {
    const end = (await log.bounds(EVENTS_TOPIC))[0]?.end ?? 0;
    return end === 0 ? [] : log.tail(EVENTS_TOPIC, 0, { from: 0, maxRecords: end, maxBytes: 2 ** 30, maxWaitMs: 0 });
  }

  return {
    port: Number(new URL(standalone.url).port),
    url: standalone.url,
    lines: standalone.process.lines,
    stored,
    events: async () => (await stored()).map((record) => decodeRecord(record.value)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
