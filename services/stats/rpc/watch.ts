// Watch: what a watcher is delivered, as messages.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type LivePointSchema,
  PointOrigin,
  type WatchResponse,
  WatchResponseSchema,
  WatchState,
} from "#gen/millrace/stats/v1/stats_pb.ts";
import type { LiveFilter } from "../live/filter.ts";
import type { Live } from "../live/live.ts";
import type { TailState } from "../live/log-tail.ts";
import { type LivePoint, pointName } from "../live/point.ts";
import type { LiveStatus } from "../live/watcher.ts";
import { toRpcError } from "./errors.ts";

const STATES: Record<TailState, WatchState> = {
  connecting: WatchState.CONNECTING,
  live: WatchState.LIVE,
  interrupted: WatchState.INTERRUPTED,
};

/** Until the signal fires: the caller has left, its deadline has passed, or the service stops. */
export async function* watchMessages(
  live: Pick<Live, "watch">,
  filter: LiveFilter,
  signal: AbortSignal,
  hangUp: () => void,
): AsyncIterable<WatchResponse> {
  try {
    signal.throwIfAborted();
    const watcher = live.watch(filter, hangUp);
    // Not only at the end of this function: it never gets there if the caller leaves in the middle of a message.
    const leave = () => watcher.close();
    signal.addEventListener("abort", leave, { once: true });
    try {
      for (let next = await watcher.next(); next !== undefined; next = await watcher.next()) {
        yield create(WatchResponseSchema, {
          ...(next.status ? { status: toStatus(next.status) } : {}),
          points: next.points.map(toMessage),
        });
      }
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", leave);
      watcher.close();
    }
  } catch (error) {
    throw toRpcError(error, signal);
  }
}

function toStatus({ state, reason, dropped, skipped, resets }: LiveStatus) {
  return {
    state: STATES[state],
    reason,
    droppedPoints: BigInt(dropped),
    skippedRecords: BigInt(skipped),
    resets,
  };
}

function toMessage(point: LivePoint): MessageInitShape<typeof LivePointSchema> {
  const { metric, value, tags, timeUs } = point;
  const seconds = Math.floor(timeUs / 1e6);
  return {
    id: pointName(point),
    metric,
    value,
    tags: { ...tags },
    time: { seconds: BigInt(seconds), nanos: Math.round(timeUs - seconds * 1e6) * 1000 },
    origin: point.origin === "relay" ? PointOrigin.RELAY : PointOrigin.EVENT,
  };
}
