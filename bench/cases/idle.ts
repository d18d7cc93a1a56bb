// What processes that do nothing take of memory, as the package runs them: gateway and consumer on Kafka, and the standalone
// with its engine.
import { setTimeout as sleep } from "node:timers/promises";
import { FREE_PORTS, type Spawned, spawnMillrace } from "../../test/kit/processes.ts";
import { readTaken } from "../cores.ts";
import { packageMillrace } from "../packaged.ts";
import type { Result, Setting } from "../result.ts";
import { makeScratch, startPathTarget } from "../stores.ts";

const SERVICE_MB_LIMIT = 90;
const STANDALONE_MB_LIMIT = 400;

export async function measureIdle(setting: Setting): Promise<Result> {
  const begun = performance.now();
  const restMs = setting.quick ? 2000 : 20_000;
  const rest = () => sleep(restMs, undefined, { signal: setting.signal });
  const residentMb = (...parts: string[]) => {
    const taken = readTaken();
    if (!taken) throw new Error("there is no /proc to read memory from");
    return parts.reduce((sum, part) => sum + (taken.get(part)?.residentMb ?? Number.NaN), 0);
  };
  const millrace = await packageMillrace(setting);
  const start = (args: string[], env: Record<string, string>): Spawned => spawnMillrace(args, env, millrace);
  let [gatewayMb, consumerMb] = [0, 0];
  {
    setting.progress("gateway and consumer");
    await using target = await startPathTarget();
    await using gateway = start(["gateway"], { ...target.env, HOST: "127.0.0.1", PORT: "0" });
    await using consumer = start(["consumer"], { ...target.env, CONSUMER_PORT: "0" });
    await Promise.all([gateway.logged("gateway listening"), consumer.logged("partitions assigned")]);
    await rest();
    [gatewayMb, consumerMb] = [residentMb("gateway"), residentMb("consumer")];
  }
  setting.progress("standalone");
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const standalone = stack.use(start(["start", "--data-dir", dataDir], FREE_PORTS));
  await standalone.logged("partition assigned");
  await rest();
  const standaloneMb = residentMb("standalone", "engine");
  await standalone.stop("SIGTERM");
  return {
    name: "idle",
    ...{ events: 0, acked: 0, rows: 0, seconds: (performance.now() - begun) / 1000 },
    targets: [
      { what: "gateway RSS MB", measured: gatewayMb, limit: SERVICE_MB_LIMIT },
      { what: "consumer RSS MB", measured: consumerMb, limit: SERVICE_MB_LIMIT },
      { what: "standalone RSS MB, its engine included", measured: standaloneMb, limit: STANDALONE_MB_LIMIT },
    ],
    note: `after ${restMs / 1000} s`,
  };
}
