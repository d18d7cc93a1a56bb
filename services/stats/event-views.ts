// What of the stats port shows events: receipts, status and tails, each as RPC and below /v1; and replays of dead letters.
import type { ConnectRouter } from "@connectrpc/connect";
import { DeadLetterService } from "#gen/millrace/stats/v1/dead_letters_pb.ts";
import { ReceiptService } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { StatusService } from "#gen/millrace/stats/v1/status_pb.ts";
import { TailService } from "#gen/millrace/stats/v1/tail_pb.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { epochToTell } from "#lib/ledger/epochs.ts";
import type { StatsParts } from "./app.ts";
import type { StatsConfig } from "./config.ts";
import type { EventAccess } from "./event-access.ts";
import { deadLetterService } from "./letters/dead-letter-service.ts";
import type { Mounted } from "./mount.ts";
import type { Runner } from "./queries/run.ts";
import { createWhere, receiptService } from "./receipts/receipt-service.ts";
import { createReceipts } from "./receipts/receipts.ts";
import { gatewayRefusals } from "./receipts/refusals.ts";
import { createRoutesV1 } from "./routes-v1.ts";
import type { HangUp } from "./rpc/rpc.ts";
import { startMonitor } from "./status/monitor.ts";
import { statusService } from "./status/status-service.ts";
import { tailService } from "./tail/tail-service.ts";
import { createTails, type Tails } from "./tail/tails.ts";

export interface EventViews extends AsyncDisposable {
  register(router: ConnectRouter, hangUp: HangUp): void;
  /** Below /v1. */
  readonly routes: Mounted;
  readonly tails: Tails;
}

export interface EventViewsOptions {
  access: EventAccess;
  runner: Runner;
  shutdownSignal: AbortSignal;
}

export function createEventViews(
  config: StatsConfig,
  parts: StatsParts,
  { access, runner, shutdownSignal }: EventViewsOptions,
): EventViews {
  const { log, warehouse, logger, registry, consumerChecks = [], logDirectory } = parts;
  const { corsAllow, secretApiKeys, refusalsFrom } = config;
  const refusals = parts.refusals ?? gatewayRefusals(refusalsFrom, secretApiKeys[0]);
  const nowMs = parts.nowMs ?? Date.now;
  const monitor = startMonitor({ log, warehouse, refusals, consumerChecks, logDirectory, registry, nowMs });
  const whyWaiting = (partition: number) => monitor.whyWaiting(EVENTS_TOPIC, partition);
  const where = createWhere(createReceipts({ log, warehouse, refusals, whyWaiting }));
  const tails = createTails({ log, logger, maxTails: config.statsMaxTails });
  const tail = { tails, epoch: async () => (await epochToTell(log, warehouse, EVENTS_TOPIC).catch(() => "")) ?? "" };
  return {
    tails,
    register(router, hangUp) {
      router.service(DeadLetterService, deadLetterService({ log, warehouse, runner }));
      router.service(ReceiptService, receiptService(where));
      router.service(StatusService, statusService(monitor));
      router.service(TailService, tailService(tail, hangUp));
    },
    routes: createRoutesV1({ access, corsAllow, where, monitor, tail, shutdownSignal, logger }),
    async [Symbol.asyncDispose]() {
      monitor[Symbol.dispose]();
      await tails[Symbol.asyncDispose]();
    },
  };
}
