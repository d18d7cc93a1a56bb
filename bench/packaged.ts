// Services as people run them: from the package's bundle, as processes of their own, CPU and memory read from /proc.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { spawnMillrace } from "../test/kit/processes.ts";
import { readProcess } from "./cores.ts";
import { type Reading, rssMaxMb } from "./meter.ts";
import type { Setting } from "./result.ts";
import type { KafkaTarget } from "./stores.ts";

const BUILD = fileURLToPath(new URL("../scripts/build-package.ts", import.meta.url));
/** Below node_modules, where the package's dependencies are. */
const PACKAGE = fileURLToPath(new URL("../node_modules/.cache/millrace-package", import.meta.url));

/** Builds it; program and first arguments of `millrace`, as spawnMillrace takes them. */
export async function packageMillrace(setting: Setting): Promise<string[]> {
  setting.progress("building the package");
  await promisify(execFile)(process.execPath, [BUILD, PACKAGE]);
  return [process.execPath, "--max-semi-space-size=8", `${PACKAGE}/bundle/cli.js`];
}

export interface PackagedGateway extends AsyncDisposable {
  port: number;
  read(): Reading;
}

/** On a broker without topics; open, unless it gets a key. */
export async function startPackagedGateway(
  millrace: readonly string[],
  { log, broker }: KafkaTarget,
  key?: string,
): Promise<PackagedGateway> {
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 12 }]);
  await using stack = new AsyncDisposableStack();
  const keys = key === undefined ? {} : { PUBLIC_API_KEYS: key };
  const env = { KAFKA_BROKERS: broker, HOST: "127.0.0.1", PORT: "0", ...keys };
  const gateway = stack.use(spawnMillrace(["gateway"], env, millrace));
  const { port } = await gateway.logged("gateway listening");
  const owned = stack.move();
  return {
    port: Number(port),
    read() {
      const found = readProcess(gateway.pid);
      if (!found)
        throw new Error(`the gateway has ended, or there is no /proc:\n${gateway.lines.slice(-20).join("\n")}`);
      return { cpuUs: found.taken.seconds * 1e6, rssMaxMb: rssMaxMb(gateway.pid) };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
