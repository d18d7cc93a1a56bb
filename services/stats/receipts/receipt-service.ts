// ReceiptService and GET /v1/receipts/{id}: the same answer, one in each form.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type ReceiptService, type WhereResponse, WhereResponseSchema } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { createSlots, type Slots } from "#lib/process/waiting.ts";
import { invalid } from "../rpc/errors.ts";
import { type Asked, readAsked } from "./asked.ts";
import type { Receipts } from "./receipts.ts";

/** Questions at once: each may read a part of the log. */
const AT_ONCE = 2;
const WAITING_MAX = 32;
const WAIT_MS_MAX = 5_000;
const IDS_MAX = 1_000;
const BUSY_SECONDS = "2";

export type AnswerWhere = (ids: readonly string[], signal: AbortSignal) => Promise<WhereResponse>;

/** Rejects with ConnectError for what the caller can help. */
export function createWhere(receipts: Receipts): AnswerWhere {
  const busy = () =>
    new ConnectError("too many questions at once; try again", Code.ResourceExhausted, { "retry-after": BUSY_SECONDS });
  const slots: Slots = createSlots({ count: AT_ONCE, waitingMax: WAITING_MAX, waitMsMax: WAIT_MS_MAX, busy });
  return async (ids, signal) => {
    const asked = readIds(ids);
    const release = await slots.take(signal);
    try {
      return create(WhereResponseSchema, { receipts: await receipts.where(asked, signal) });
    } finally {
      release();
    }
  };
}

export function receiptService(where: AnswerWhere): ServiceImpl<typeof ReceiptService> {
  return { where: ({ ids }, { signal }) => where(ids, signal) };
}

function readIds(ids: readonly string[]): Asked[] {
  if (ids.length === 0) throw invalid("ids: is empty; give at least one id or position");
  if (ids.length > IDS_MAX) throw invalid(`ids: has ${ids.length}; at most ${IDS_MAX} are taken at once`);
  return ids.map((text, i) => {
    const asked = readAsked(text);
    if (typeof asked === "string") throw invalid(`ids[${i}]: ${asked}`);
    return asked;
  });
}
