// Every kind of fault and the code that causes it.
import type { FaultKind } from "../kinds.ts";
import {
  addPartition,
  cutClients,
  cutPeers,
  freezeLeader,
  killController,
  killLeader,
  movePartitions,
  onceInSync,
  replaceCertificate,
  rollingRestart,
  rotatePassword,
  twoAway,
} from "./brokers.ts";
import { clockConsumer, clockGateway } from "./clocks.ts";
import type { Fault } from "./fault.ts";
import { clickHouseFault, cutConsumer, resetBroker, resetClickHouse, resetGateway, slowBroker } from "./links.ts";
import { expireOffsets, wipeTopic } from "./log.ts";
import {
  changeConsumers,
  freezeBroker,
  freezeClickHouse,
  freezeConsumer,
  freezeGateway,
  killBroker,
  killClickHouse,
  killConsumer,
  killGateway,
  restartGateway,
} from "./processes.ts";
import { standalone } from "./standalone.ts";

export const FAULTS: Record<FaultKind, Fault> = {
  kill_gateway: killGateway,
  kill_consumer: killConsumer,
  kill_broker: killBroker,
  kill_clickhouse: killClickHouse,
  freeze_gateway: freezeGateway,
  freeze_consumer: freezeConsumer,
  freeze_broker: freezeBroker,
  freeze_clickhouse: freezeClickHouse,
  restart_gateway: restartGateway,
  change_consumers: changeConsumers,
  clock_gateway: clockGateway,
  clock_consumer: clockConsumer,
  slow_broker: slowBroker,
  reset_gateway: resetGateway,
  reset_broker: resetBroker,
  reset_clickhouse: resetClickHouse,
  cut_consumer: cutConsumer,
  status_500: clickHouseFault("status_500", true),
  status_503: clickHouseFault("status_503", true),
  hang: clickHouseFault("hang", true),
  close_after_insert: clickHouseFault("close_after_insert", false),
  close_mid_insert: clickHouseFault("close_mid_insert", false),
  too_many_parts: clickHouseFault("too_many_parts", true),
  expire_offsets: expireOffsets,
  wipe_topic: wipeTopic,
  standalone,
  kill_leader: onceInSync(killLeader),
  kill_controller: onceInSync(killController),
  rolling_restart: onceInSync(rollingRestart),
  freeze_leader: onceInSync(freezeLeader),
  two_away: onceInSync(twoAway),
  move_partitions: onceInSync(movePartitions),
  add_partition: addPartition,
  replace_certificate: replaceCertificate,
  rotate_password: rotatePassword,
  cut_clients: cutClients,
  cut_peers: onceInSync(cutPeers),
};
