// grpc.health.v1: the gateway's readiness for gRPC load balancers and `grpc_health_probe`.
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus, HealthCheckResponseSchema } from "#gen/grpc/health/v1/health_pb.ts";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";

const WATCH_INTERVAL_MS = 1000;
const SERVICES = new Set(["", EventService.typeName, Health.typeName]);
const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

export function registerHealthService(router: ConnectRouter, isReady: () => Promise<boolean>): void {
  async function statusOf(service: string) {
    if (!SERVICES.has(service)) return SERVICE_UNKNOWN;
    return (await isReady()) ? SERVING : NOT_SERVING;
  }
  router.service(Health, {
    async check({ service }) {
      const status = await statusOf(service);
      if (status === SERVICE_UNKNOWN) throw new ConnectError(`unknown service ${service.slice(0, 100)}`, Code.NotFound);
      return create(HealthCheckResponseSchema, { status });
    },
    async *watch({ service }, context) {
      let last: number | undefined;
      while (!context.signal.aborted) {
        const status = await statusOf(service);
        if (status !== last) yield create(HealthCheckResponseSchema, { status });
        last = status;
        // An aborted sleep is the end of the watch, not a failure of it.
        await sleep(WATCH_INTERVAL_MS, undefined, { signal: context.signal }).catch(() => {});
      }
    },
  });
}
