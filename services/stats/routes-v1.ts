// GET /v1/receipts/{id}, /v1/status and /v1/tail: what the RPCs of the same names answer, for curl and EventSource.
import { create, type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReceiptSchema } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { GetStatusResponseSchema } from "#gen/millrace/stats/v1/status_pb.ts";
import { TailRequestSchema, type TailResponse, TailResponseSchema } from "#gen/millrace/stats/v1/tail_pb.ts";
import { sendJson } from "#lib/http/answers.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import type { EventAccess } from "./event-access.ts";
import { drained, EVENT_STREAM_HEADERS, RECONNECT_LINE } from "./live/event-stream.ts";
import type { Mounted } from "./mount.ts";
import { pathOf, queryOf, segmentsOf } from "./query-string.ts";
import type { AnswerWhere } from "./receipts/receipt-service.ts";
import { FAILED } from "./refusals.ts";
import type { Monitor } from "./status/monitor.ts";
import { readStatus } from "./status/status-service.ts";
import { readFilter, type TailServiceOptions, tailMessages } from "./tail/tail-service.ts";

export interface RoutesV1Options {
  access: EventAccess;
  corsAllow: string;
  where: AnswerWhere;
  monitor: Pick<Monitor, "snapshot">;
  tail: TailServiceOptions;
  shutdownSignal: AbortSignal;
  logger: Logger;
}

const STATUS_OF: Partial<Record<Code, number>> = {
  [Code.InvalidArgument]: 400,
  [Code.ResourceExhausted]: 503,
  [Code.Unavailable]: 503,
};

export function createRoutesV1(options: RoutesV1Options): Mounted {
  const { access, corsAllow, where, monitor, shutdownSignal, logger } = options;

  async function answer(request: HttpRequest, response: HttpResponse, segments: readonly string[]): Promise<void> {
    const [, name, id = ""] = segments;
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("the caller has gone")));
    const signal = AbortSignal.any([gone.signal, shutdownSignal]);
    try {
      if (name === "receipts") {
        const [receipt] = (await where([id], signal)).receipts;
        if (receipt) sendMessage(response, ReceiptSchema, receipt);
      } else if (name === "status") {
        sendMessage(response, GetStatusResponseSchema, await readStatus(monitor));
      } else {
        const filter = readFilter(tailRequest(queryOf(request)));
        await follow(
          tailMessages(options.tail, filter, signal, () => response.destroy()),
          response,
        );
      }
    } catch (error) {
      if (isCallerGone(response) || response.headersSent) response.destroy();
      else refuse(response, error);
    }
  }

  function refuse(response: HttpResponse, error: unknown): void {
    const status = error instanceof ConnectError ? STATUS_OF[error.code] : undefined;
    if (!(error instanceof ConnectError) || status === undefined) {
      logger.error({ err: error }, "a request could not be answered");
      sendJson(response, 500, { error: FAILED });
      return;
    }
    const retryAfter = error.metadata.get("retry-after");
    sendJson(response, status, { error: error.rawMessage }, retryAfter === null ? {} : { "retry-after": retryAfter });
  }

  return (request, response) => {
    const segments = segmentsOf(pathOf(request) ?? "/");
    if (request.method !== "GET" || !isOurs(segments)) return false;
    if (corsAllow !== "") response.setHeader("access-control-allow-origin", corsAllow);
    const refusal = access.refusalOf(request);
    if (refusal) sendJson(response, refusal.why === "unknown" ? 401 : 403, { error: refusal.message });
    else void answer(request, response, segments);
    return true;
  };
}

function isOurs([version, name, id, ...more]: readonly string[]): boolean {
  if (version !== "v1" || more.length > 0) return false;
  return name === "receipts"
    ? id !== undefined && id !== ""
    : (name === "status" || name === "tail") && id === undefined;
}

function sendMessage<D extends DescMessage>(response: HttpResponse, schema: D, message: MessageShape<D>): void {
  response.setHeader("cache-control", "no-store");
  sendJson(response, 200, toJson(schema, message));
}

/** ?event=E&distinct_id=D&where=plan=pro&per_second=50&recent=10; event, distinct_id and where may repeat. */
function tailRequest(query: URLSearchParams) {
  const conditions = query.getAll("where").map((text) => {
    const at = text.indexOf("=");
    return at < 0 ? { key: text, values: [] } : { key: text.slice(0, at), values: [text.slice(at + 1)] };
  });
  const number = (name: string) => {
    const text = query.get(name) ?? "0";
    if (/^\d{1,9}$/.test(text)) return Number(text);
    throw new ConnectError(`${name}: is no whole number`, Code.InvalidArgument);
  };
  return create(TailRequestSchema, {
    ...{ events: query.getAll("event"), distinctIds: query.getAll("distinct_id"), where: conditions },
    ...{ eventsPerSecond: number("per_second"), recent: number("recent") },
  });
}

async function follow(messages: AsyncGenerator<TailResponse>, response: HttpResponse): Promise<void> {
  // The first before the head is written, so that a refusal still has a status of its own.
  let next = await messages.next();
  response.writeHead(200, EVENT_STREAM_HEADERS);
  response.write(RECONNECT_LINE);
  for (; !next.done; next = await messages.next()) {
    const text = `data: ${JSON.stringify(toJson(TailResponseSchema, next.value))}\n\n`;
    if (!response.write(text)) await drained(response);
  }
  response.end();
}
