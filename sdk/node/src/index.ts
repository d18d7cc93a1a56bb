// biome-ignore-all lint/performance/noBarrelFile: the package's entry point is made of names alone

// @millrace/client: everything that callers can import.

export * from "../../../gen/millrace/events/v1/events_pb.ts";
export * from "../../../gen/millrace/stats/v1/alerts_pb.ts";
export * from "../../../gen/millrace/stats/v1/stats_pb.ts";
export { createRelayClient, type RelayClient, type RelayClientOptions } from "../../../lib/relay-protocol/client.ts";
export type { Collector, Measured } from "../../../lib/relay-protocol/client-collectors.ts";
export { RelayRefusedError } from "../../../lib/relay-protocol/client-connection.ts";
export type { EventRejection } from "./call.ts";
export type { Counters, DroppedEvent, DropReason } from "./capture.ts";
export { type Client, createClient } from "./client.ts";
export type { ClientEvent } from "./event.ts";
export type { ClientLogger, ClientOptions, SpoolSettings } from "./options.ts";
export { PublishError, type PublishOptions, type Verdicts } from "./publish.ts";
export { SpoolInUseError } from "./spool-lock.ts";
export {
  type AlertsClient,
  createAlertsClient,
  createStatsClient,
  type StatsClient,
  type StatsClientOptions,
} from "./stats.ts";
export type { TransportName, TransportOptions } from "./transport.ts";
