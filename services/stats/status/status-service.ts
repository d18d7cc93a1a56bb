// StatusService and GET /v1/status: what was measured, as a message.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type GetStatusResponse,
  GetStatusResponseSchema,
  Problem_Severity,
  type StatusService,
} from "#gen/millrace/stats/v1/status_pb.ts";
import { packageVersion } from "#lib/process/version.ts";
import { durationOfMs } from "../receipts/sightings.ts";
import type { TopicFlow } from "./flow.ts";
import type { Monitor, Snapshot } from "./monitor.ts";
import type { Facts, Problem, Severity } from "./problems.ts";

const SEVERITIES: Record<Severity, Problem_Severity> = {
  notice: Problem_Severity.NOTICE,
  delay: Problem_Severity.DELAY,
  loss: Problem_Severity.LOSS,
};

export async function readStatus(monitor: Pick<Monitor, "snapshot">): Promise<GetStatusResponse> {
  return toMessage(await monitor.snapshot());
}

export function statusService(monitor: Pick<Monitor, "snapshot">): ServiceImpl<typeof StatusService> {
  return { getStatus: () => readStatus(monitor) };
}

function toMessage({ atMs, facts, problems, tables, report, logSystem, gaps }: Snapshot): GetStatusResponse {
  const letters = tables?.letters;
  const versions = {
    millrace: packageVersion(),
    clickhouse: tables?.version ?? "",
    log: logSystem,
    schema: tables?.schema ?? "",
  };
  return create(GetStatusResponseSchema, {
    time: timestampFromMs(atMs),
    problems: problems.map(problemMessage),
    topics: facts.flows.map((flow) => topicMessage(flow, facts)),
    refusals: [...report.sums]
      .filter(({ lastHour }) => lastHour > 0)
      .sort((a, b) => b.lastHour - a.lastHour)
      .map(({ reason, lastHour, newestMs }) => ({
        ...{ reason, lastHour: BigInt(lastHour), newest: timestampFromMs(newestMs) },
      })),
    ...(tables && {
      deadLetters: {
        total: BigInt(letters?.total ?? 0),
        lastHour: BigInt(letters?.lastHour ?? 0),
        newestClass: letters?.newestClass ?? "",
        ...(letters && { newest: timestampFromMs(letters.newestMs) }),
      },
    }),
    ...(tables?.verify && {
      lastVerify: {
        time: timestampFromMs(tables.verify.atMs),
        isProven: tables.verify.isSound,
        missing: BigInt(tables.verify.missing),
        doubled: BigInt(tables.verify.doubled),
      },
    }),
    disks: facts.disks.map(({ name, free, total }) => ({
      ...{ name, freeBytes: BigInt(free), totalBytes: BigInt(total) },
    })),
    versions: Object.entries(versions)
      .filter(([, version]) => version !== "")
      .map(([part, version]) => ({ part, version })),
    gaps,
  });
}

function problemMessage({ name, severity, text, remedy, sinceMs }: Problem) {
  return { name, severity: SEVERITIES[severity], text, remedy, since: timestampFromMs(sinceMs) };
}

function topicMessage(flow: TopicFlow, { nowMs, newestRowMs }: Facts) {
  const { topic, inPerSecond, storedPerSecond, waiting, oldestWaitingMs, partitions, batchWait } = flow;
  const newest = newestRowMs.get(topic);
  const behindMs = waiting === 0 ? 0 : oldestWaitingMs === undefined ? undefined : Math.max(0, nowMs - oldestWaitingMs);
  return {
    ...{ topic, waiting: BigInt(waiting) },
    ...(inPerSecond !== undefined && { inPerSecond }),
    ...(storedPerSecond !== undefined && { storedPerSecond }),
    ...(behindMs !== undefined && { behind: durationOfMs(behindMs) }),
    ...(oldestWaitingMs !== undefined && waiting > 0 && { oldestWaiting: timestampFromMs(oldestWaitingMs) }),
    ...(newest !== undefined && { newestRow: timestampFromMs(newest) }),
    ...(batchWait && { batchWait: durationOfMs(batchWait.ms), batchWaitReason: batchWait.reason }),
    partitions: partitions.map(({ partition, end, next }) => ({
      ...{ partition, endOffset: BigInt(end), nextOffset: BigInt(next) },
    })),
  };
}
