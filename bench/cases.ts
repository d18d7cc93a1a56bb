// The cases by the name that --only looks at.
import { measureClient } from "./cases/client.ts";
import { measureAwayBroker, measureFarBroker } from "./cases/cluster.ts";
import { measureConsole } from "./cases/console.ts";
import { measureConsolePage } from "./cases/console-page.ts";
import { measureConsumer } from "./cases/consumer.ts";
import { FLOOR_KINDS, measureAgainstFloor } from "./cases/floor.ts";
import { measureGateway } from "./cases/gateway.ts";
import { measureIdle } from "./cases/idle.ts";
import { measureMemory } from "./cases/memory.ts";
import { measureOverload } from "./cases/overload.ts";
import { measurePath } from "./cases/path.ts";
import { measureRelay } from "./cases/relay.ts";
import { measureRestart } from "./cases/restart.ts";
import { measureSoak } from "./cases/soak.ts";
import { measureStandalone } from "./cases/standalone.ts";
import { measureStats } from "./cases/stats.ts";
import { measureWires } from "./cases/wires.ts";
import { KINDS } from "./requests.ts";
import type { Case } from "./result.ts";

/** What one machine of two cores is to take, with broker, ClickHouse and load generator on it. */
const PATH_EVENTS_PER_SECOND = 40_000;
const PROBED_EVENTS_PER_SECOND = PATH_EVENTS_PER_SECOND / 2;

export const CASES: Record<string, Case> = {
  ...gatewayCases("sqlite"),
  ...gatewayCases("kafka"),
  ...Object.fromEntries(
    FLOOR_KINDS.map(
      (kind) => [`floor-${kind}`, (setting) => measureAgainstFloor(kind, setting)] satisfies [string, Case],
    ),
  ),
  wires: measureWires,
  "cluster-dead-broker": (setting) => measureAwayBroker("dead", setting),
  "cluster-cut-broker": (setting) => measureAwayBroker("cut off", setting),
  "cluster-far-broker": measureFarBroker,
  memory: measureMemory,
  idle: measureIdle,
  overload: measureOverload,
  consumer: measureConsumer,
  restart: measureRestart,
  soak: measureSoak,
  "path-sustained": (setting) => measurePath({ eventsPerSecond: PATH_EVENTS_PER_SECOND, probing: false }, setting),
  "path-latency": (setting) => measurePath({ eventsPerSecond: PROBED_EVENTS_PER_SECOND, probing: true }, setting),
  relay: measureRelay,
  standalone: measureStandalone,
  client: (setting) => measureClient("memory", setting),
  "client-spool": (setting) => measureClient("spool", setting),
  stats: measureStats,
  console: measureConsole,
  "console-page": measureConsolePage,
};

function gatewayCases(on: "sqlite" | "kafka"): Record<string, Case> {
  return Object.fromEntries(
    KINDS.map(
      (kind) => [`gateway-${on}-${kind}`, (setting) => measureGateway(on, kind, setting)] satisfies [string, Case],
    ),
  );
}
