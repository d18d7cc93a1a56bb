// What processes that do nothing take of memory: gateway and consumer on Kafka, and the standalone with its engine.
import { setTimeout as sleep } from "node:timers/promises";
import { FREE_PORTS, spawnMillrace } from "../../test/kit/processes.ts";
import { readTaken } from "../cores.ts";
import { startMeasured } from "../meter.ts";
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
  let [gatewayMb, consumerMb] = [0, 0];
  {
    setting.progress("gateway and consumer");
    await using target = await startPathTarget();
    await using _gateway = await startMeasured("gateway-process.ts", [target.address]);
    await using _consumer = await startMeasured("consumer-process.ts", [target.broker, target.clickhouseUrl]);
    await rest();
    [gatewayMb, consumerMb] = [residentMb("gateway"), residentMb("consumer")];
  }
  setting.progress("standalone");
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const standalone = stack.use(spawnMillrace(["start", "--data-dir", dataDir], FREE_PORTS));
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
