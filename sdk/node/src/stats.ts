// Typed clients of the stats service: what was measured, and alerts on it.
import type { DescService } from "@bufbuild/protobuf";
import { type Client as ConnectClient, createClient } from "@connectrpc/connect";
import { AlertService } from "../../../gen/millrace/stats/v1/alerts_pb.ts";
import { StatsService } from "../../../gen/millrace/stats/v1/stats_pb.ts";
import { createTransport, type TransportOptions } from "./transport.ts";

export interface StatsClientOptions extends Omit<TransportOptions, "apiKey"> {
  /** STATS_TOKEN of the service, where it has one. */
  token?: string | undefined;
}

/** One method for each of the service; errors are ConnectErrors, whose metadata may have `retry-after`. */
export type ServiceClient<T extends DescService> = ConnectClient<T> & AsyncDisposable & { close(): void };

export type StatsClient = ServiceClient<typeof StatsService>;
export type AlertsClient = ServiceClient<typeof AlertService>;

/** Metrics, tags, series, and points as they arrive. Throws a TypeError for options that cannot be. */
export function createStatsClient(options: StatsClientOptions): StatsClient {
  return createServiceClient(StatsService, options);
}

/** Alert definitions, their state and their history. Throws a TypeError for options that cannot be. */
export function createAlertsClient(options: StatsClientOptions): AlertsClient {
  return createServiceClient(AlertService, options);
}

function createServiceClient<T extends DescService>(
  service: T,
  { token, ...options }: StatsClientOptions,
): ServiceClient<T> {
  const { transport, close } = createTransport({ ...options, apiKey: token });
  return Object.assign(createClient(service, transport), {
    close,
    async [Symbol.asyncDispose]() {
      close();
    },
  });
}
