// What one event costs at the gateway, by dialect and log.

import type { LoadOrder } from "../load.ts";
import { startMeasured } from "../meter.ts";
import { BATCH_KEY, type Kind } from "../requests.ts";
import { CaseFailedError, expectCounted, type Result, type Setting, type Target } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { startKafkaTarget, startSqliteTarget } from "../stores.ts";

const CONNECTIONS = 16;
const EVENTS_PER_REQUEST = 100;
const CPU_US_LIMITS_ON_KAFKA: Partial<Record<Kind, number>> = {
  "connect-protobuf": 12,
  "connect-struct": 18,
  batch: 10,
};

export async function measureGateway(on: "sqlite" | "kafka", kind: Kind, setting: Setting): Promise<Result> {
  await using target = await (on === "kafka" ? startKafkaTarget() : startSqliteTarget());
  await using gateway = await startMeasured("gateway-process.ts", [
    target.address,
    ...(kind === "batch" ? [BATCH_KEY] : []),
  ]);
  const order: LoadOrder = {
    port: Number(gateway.details.port),
    kind,
    seconds: setting.quick ? 1.5 : 8,
    connections: CONNECTIONS,
    eventsPerRequest: [EVENTS_PER_REQUEST],
  };
  setting.progress("warming up");
  await runLoad({ ...order, seconds: setting.quick ? 0.5 : 3 }, setting.signal);
  const rowsBefore = await target.count();
  setting.progress(`${CONNECTIONS} connections for ${order.seconds} s`);
  const before = await gateway.read();
  const load = await runLoad(order, setting.signal);
  const after = await gateway.read();
  const rows = (await target.count()) - rowsBefore;
  expectCounted(load.acked, rows);
  const others = Object.keys(load.statuses).filter((status) => status !== "200");
  if (others.length > 0) throw new CaseFailedError(`answered with ${others.join(", ")}`);
  const cpuUsPerEvent = (after.cpuUs - before.cpuUs) / rows;
  const limit = on === "kafka" ? CPU_US_LIMITS_ON_KAFKA[kind] : undefined;
  const targets: Target[] = limit === undefined ? [] : [{ what: "CPU us/event", measured: cpuUsPerEvent, limit }];
  const { events, acked, seconds } = load;
  return {
    name: `gateway ${kind} on ${on}`,
    events,
    acked,
    rows,
    seconds,
    cpuUsPerEvent,
    rssMaxMb: after.rssMaxMb,
    targets,
    note: `${load.statuses["200"]} requests`,
  };
}
