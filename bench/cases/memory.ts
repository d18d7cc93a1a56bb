// How large a gateway becomes at a load that it can well carry, as the package runs it.
import { packageMillrace, startPackagedGateway } from "../packaged.ts";
import { BATCH_KEY } from "../requests.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { startKafkaTarget } from "../stores.ts";

const CONNECTIONS = 16;
const EVENTS_PER_REQUEST = [100];
const SHARE_OF_CAPACITY = 0.6;
const RSS_MB_LIMIT = 200;

export async function measureMemory(setting: Setting): Promise<Result> {
  const millrace = await packageMillrace(setting);
  await using target = await startKafkaTarget();
  const load = { kind: "batch" as const, connections: CONNECTIONS, eventsPerRequest: EVENTS_PER_REQUEST };
  let capacity: number;
  {
    setting.progress("capacity");
    await using gateway = await startPackagedGateway(millrace, target, BATCH_KEY);
    const seconds = setting.quick ? 1 : 5;
    const { acked } = await runLoad({ ...load, port: gateway.port, seconds }, setting.signal);
    capacity = acked / seconds;
  }
  const rowsBefore = await target.count();
  // A process that has not been at its limit.
  await using gateway = await startPackagedGateway(millrace, target, BATCH_KEY);
  const { port } = gateway;
  const seconds = setting.quick ? 2 : 20;
  const eventsPerSecond = Math.round(capacity * SHARE_OF_CAPACITY);
  setting.progress(`${eventsPerSecond} events/s for ${seconds} s`);
  const before = gateway.read();
  const result = await runLoad({ ...load, port, seconds, eventsPerSecond }, setting.signal);
  const { cpuUs, rssMaxMb } = gateway.read();
  const rows = (await target.count()) - rowsBefore;
  expectCounted(result.acked, rows);
  return {
    name: "gateway memory at 60 %",
    ...{ events: result.events, acked: result.acked, rows, seconds: result.seconds, rssMaxMb },
    cpuUsPerEvent: (cpuUs - before.cpuUs) / rows,
    targets: [{ what: "RSS max MB", measured: rssMaxMb, limit: RSS_MB_LIMIT }],
    note: `of ${Math.round(capacity)} events/s`,
  };
}
