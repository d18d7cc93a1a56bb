// What one event costs at the gateway as a multiple of the floor: HTTP and JSON.parse alone, measured in turns with it.
import { type Measured, startMeasured } from "../meter.ts";
import { BATCH_KEY, type Kind } from "../requests.ts";
import { CaseFailedError, expectCounted, type Result, type Setting, type Target } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { startKafkaTarget } from "../stores.ts";

const CONNECTIONS = 16;
const EVENTS_PER_REQUEST = 100;
/** Both are measured so many times, so that a machine that slows down is slow for both. */
const TURNS = 3;

/** What a kind is compared with, as JSON of the same events, and what may be the most. */
const FLOORS = {
  batch: { floor: "batch", limit: 2.8 },
  "connect-protobuf": { floor: "batch", limit: 2.8 },
  events: { floor: "events", limit: 1.7 },
} as const satisfies Partial<Record<Kind, { floor: Kind; limit: number }>>;

export const FLOOR_KINDS = Object.keys(FLOORS) as (keyof typeof FLOORS)[];

/** One of several that are measured in turns. */
export interface Side {
  process: Measured;
  kind: Kind;
  events: number;
  acked: number;
  seconds: number;
  cpuUs: number;
}

export async function measureAgainstFloor(kind: keyof typeof FLOORS, setting: Setting): Promise<Result> {
  const { floor: floorKind, limit } = FLOORS[kind];
  await using target = await startKafkaTarget();
  await using gateway = await startMeasured("gateway-process.ts", [
    target.address,
    ...(kind === "batch" ? [BATCH_KEY] : []),
  ]);
  await using floor = await startMeasured("floor-process.ts", []);
  const ours = sideOf(gateway, kind);
  const bare = sideOf(floor, floorKind);
  setting.progress("warming up");
  await load(sideOf(gateway, kind), setting.quick ? 0.5 : 3, setting);
  await load(sideOf(floor, floorKind), setting.quick ? 0.5 : 3, setting);
  const rowsBefore = await target.count();
  for (let turn = 1; turn <= TURNS; turn++) {
    setting.progress(`turn ${turn} of ${TURNS}`);
    for (const side of [ours, bare]) await load(side, setting.quick ? 0.5 : 4, setting);
  }
  const rows = (await target.count()) - rowsBefore;
  expectCounted(ours.acked, rows);
  const cpuUsPerEvent = ours.cpuUs / rows;
  const floorUs = bare.cpuUs / bare.acked;
  const targets: Target[] = [{ what: "times the floor", measured: cpuUsPerEvent / floorUs, limit }];
  const { events, acked, seconds } = ours;
  const { rssMaxMb } = await gateway.read();
  return {
    name: `floor ${kind}`,
    ...{ events, acked, rows, seconds, cpuUsPerEvent, rssMaxMb, targets },
    note: `floor (${floorKind} as JSON) ${floorUs.toFixed(1)} us/event, ${Math.round(bare.acked / bare.seconds)} events/s`,
  };
}

export function sideOf(measured: Measured, kind: Kind): Side {
  return { process: measured, kind, events: 0, acked: 0, seconds: 0, cpuUs: 0 };
}

export async function load(side: Side, seconds: number, { signal }: Setting): Promise<void> {
  const before = await side.process.read();
  const order = { kind: side.kind, seconds, connections: CONNECTIONS, eventsPerRequest: [EVENTS_PER_REQUEST] };
  const result = await runLoad({ port: Number(side.process.details.port), ...order }, signal);
  const after = await side.process.read();
  const others = Object.keys(result.statuses).filter((status) => !status.startsWith("2"));
  if (others.length > 0) throw new CaseFailedError(`answered with ${others.join(", ")}`);
  side.events += result.events;
  side.acked += result.acked;
  side.seconds += result.seconds;
  side.cpuUs += after.cpuUs - before.cpuUs;
}
