// ListTransitions: pages of the history, as messages.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  AlertLevel,
  Delivery_State,
  type ListTransitionsRequest,
  TransitionSchema,
} from "#gen/millrace/stats/v1/alerts_pb.ts";
import { parseUuid } from "#lib/events/ids.ts";
import { quoted } from "#lib/process/printable.ts";
import type { HistoryEntry, HistoryPage } from "./store-history.ts";

const PAGE_SIZE = 100;
const PAGE_SIZE_MAX = 1_000;

const LEVELS: Readonly<Record<string, AlertLevel>> = {
  ...{ ok: AlertLevel.OK, info: AlertLevel.INFO, warn: AlertLevel.WARN, crit: AlertLevel.CRIT },
};
const STATES = {
  ...{ pending: Delivery_State.PENDING, delivered: Delivery_State.DELIVERED, failed: Delivery_State.FAILED },
};

/**
 * The page that a request asks for, of one entry more than it may have: that one tells whether another page follows.
 * Throws ConnectError.
 */
export function readPage({ alertId, pageSize, pageToken }: ListTransitionsRequest): {
  page: HistoryPage;
  tokenAfter(entries: readonly HistoryEntry[]): string;
} {
  if (alertId !== "" && !parseUuid(alertId))
    throw invalid(`alert_id: ${quoted(alertId)} is not a UUID; send an alert's id`);
  if (pageSize < 0 || pageSize > PAGE_SIZE_MAX) throw invalid(`page_size: ${pageSize} is not 0 to ${PAGE_SIZE_MAX}`);
  const size = pageSize || PAGE_SIZE;
  return {
    page: {
      alertId: alertId || undefined,
      count: size + 1,
      before: pageToken === "" ? undefined : readToken(pageToken),
    },
    tokenAfter(entries) {
      const last = entries[size - 1];
      return last && entries.length > size ? Buffer.from(`${last.atMs} ${last.id}`).toString("base64url") : "";
    },
  };
}

function readToken(token: string): HistoryPage["before"] {
  const [atMs = "", id = ""] = Buffer.from(token, "base64url").toString().split(" ");
  if (!/^\d{1,15}$/.test(atMs) || !parseUuid(id)) {
    throw invalid("page_token: is not one; send next_page_token of an answer, or nothing for the first page");
  }
  return { atMs: Number(atMs), id };
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

export function transitionMessage(entry: HistoryEntry) {
  const { id, alertId, alertVersion, metric, group, level, previousLevel, value, atMs, windowStartMs, delivery } =
    entry;
  return create(TransitionSchema, {
    ...{ id, alertId, metric, group },
    alertVersion: BigInt(alertVersion),
    level: LEVELS[level] ?? AlertLevel.UNSPECIFIED,
    previousLevel: LEVELS[previousLevel] ?? AlertLevel.UNSPECIFIED,
    ...(value === undefined ? {} : { value }),
    time: timestampFromMs(atMs),
    windowStart: timestampFromMs(windowStartMs),
    previousTransitionId: entry.previousId ?? "",
    delivery: {
      state: STATES[delivery.state],
      attempts: delivery.attempts,
      httpStatus: delivery.httpStatus,
      error: delivery.error,
      ...(delivery.atMs === undefined ? {} : { time: timestampFromMs(delivery.atMs) }),
    },
  });
}
