// TailService: what a tail is delivered, as messages; the same messages are the data of GET /v1/tail.
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import {
  type TailRequest,
  type TailResponse,
  TailResponseSchema,
  type TailService,
} from "#gen/millrace/stats/v1/tail_pb.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createPositionNames } from "#lib/ledger/position-name.ts";
import type { TailState } from "../live/log-tail.ts";
import { factsOf, timestampOfMs, timestampOfUs, viewOf } from "../receipts/sightings.ts";
import { invalid, toRpcError } from "../rpc/errors.ts";
import type { HangUp } from "../rpc/rpc.ts";
import type { TailFilter } from "./filter.ts";
import type { LoggedEvent, TailDelivery } from "./queue.ts";
import type { Tails } from "./tails.ts";

export interface TailServiceOptions {
  tails: Tails;
  /** Epoch of the log, "" while it is not known. */
  epoch(): Promise<string>;
}

const STATES: Record<TailState, WatchState> = {
  connecting: WatchState.CONNECTING,
  live: WatchState.LIVE,
  interrupted: WatchState.INTERRUPTED,
};
const NAMES_MAX = 100;
const CONDITIONS_MAX = 20;
const PER_SECOND_DEFAULT = 50;
const PER_SECOND_MAX = 1_000;
const RECENT_MAX = 1_000;

export function tailService(options: TailServiceOptions, hangUp: HangUp): ServiceImpl<typeof TailService> {
  return {
    tail: (request, context) => tailMessages(options, readFilter(request), context.signal, () => hangUp(context)),
  };
}

/** Until the signal fires. Rejects with what the caller is told. */
export async function* tailMessages(
  { tails, epoch }: TailServiceOptions,
  filter: TailFilter,
  signal: AbortSignal,
  hangUp: () => void,
): AsyncGenerator<TailResponse> {
  try {
    signal.throwIfAborted();
    const of = await epoch();
    const tail = tails.watch(filter, hangUp);
    // Not only at the end of this function: it never gets there if the caller leaves in the middle of a message.
    const leave = () => tail.close();
    signal.addEventListener("abort", leave, { once: true });
    try {
      for (let next = await tail.next(); next !== undefined; next = await tail.next()) yield toMessage(next, tails, of);
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", leave);
      tail.close();
    }
  } catch (error) {
    throw toRpcError(error, signal);
  }
}

/** Throws ConnectError that begins with the field. */
export function readFilter({ events, distinctIds, where, eventsPerSecond, recent }: TailRequest): TailFilter {
  const tooMany = (field: string, count: number, max: number) =>
    invalid(`${field}: has ${count}; at most ${max} are taken`);
  if (events.length > NAMES_MAX) throw tooMany("events", events.length, NAMES_MAX);
  if (distinctIds.length > NAMES_MAX) throw tooMany("distinct_ids", distinctIds.length, NAMES_MAX);
  if (where.length > CONDITIONS_MAX) throw tooMany("where", where.length, CONDITIONS_MAX);
  if (eventsPerSecond > PER_SECOND_MAX)
    throw invalid(`events_per_second: is ${eventsPerSecond}; 1 to ${PER_SECOND_MAX} are taken`);
  if (recent > RECENT_MAX) throw invalid(`recent: is ${recent}; at most ${RECENT_MAX} are taken`);
  for (const [i, { key, values }] of where.entries()) {
    if (key === "") throw invalid(`where[${i}].key: is missing; name a property`);
    if (values.length === 0 || values.length > NAMES_MAX)
      throw invalid(`where[${i}].values: has ${values.length}; 1 to ${NAMES_MAX} are taken`);
  }
  return {
    ...{ events: new Set(events), distinctIds: new Set(distinctIds), recent },
    where: where.map(({ key, values }) => ({ key, values: new Set(values) })),
    eventsPerSecond: eventsPerSecond || PER_SECOND_DEFAULT,
  };
}

function toMessage({ status, events, progress }: TailDelivery, tails: Tails, epoch: string): TailResponse {
  return create(TailResponseSchema, {
    ...(status && {
      status: {
        ...{ state: STATES[status.state], reason: status.reason, resets: status.resets },
        ...{ shown: BigInt(status.shown), passedOver: BigInt(status.passedOver) },
        skippedRecords: BigInt(status.skipped),
      },
    }),
    events: events.map((event) => eventMessage(event, tails, epoch)),
    stored: progress.map(([partition, next]) => ({ partition, nextOffset: BigInt(next) })),
  });
}

function eventMessage(
  { partition, stored: { offset, appendTimeMs }, record }: LoggedEvent,
  tails: Tails,
  epoch: string,
) {
  const place = { epoch, topic: EVENTS_TOPIC, partition, offset };
  return {
    position: { ...place, offset: BigInt(offset), name: createPositionNames([epoch]).nameOf(place) },
    event: viewOf(factsOf(record)),
    received: timestampOfUs(Number(record.receivedUs)),
    appended: timestampOfMs(appendTimeMs),
    isStored: tails.isStored(partition, offset),
  };
}
