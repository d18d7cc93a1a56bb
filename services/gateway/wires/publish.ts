// EventService.Publish as Connect's clients call it most: one protobuf message over POST, not encoded. It is read and answered
// here without the RPC library, whose ways cost as much as the rest; every other form of the call is the library's (rpc.ts).
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { EventService, PublishRequestSchema, PublishResponseSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { RPC_CORS } from "#lib/http/cors.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Edge, Entry } from "../edge.ts";
import { refused } from "../refusals.ts";
import { Reply, type Wire } from "../wire.ts";
import type { WireRules } from "../wire-table.ts";
import { cutPublishMessage } from "./publish-message.ts";
import { type EventServiceOptions, type PublishOrder, publishEvents, readEvent, toResponse } from "./rpc.ts";
import type { createMessageCheck } from "./rpc-messages.ts";

const PATH = `/${EventService.typeName}/${EventService.method.publish.name}`;
const TYPE = "application/proto";

/** Beside the table of wires: to callers it is the RPC of its path and nothing else. */
export const PUBLISH_RULES = {
  ...{ dialect: "connect", paths: [PATH], cors: RPC_CORS, isTraced: true },
  ...{ access: "key", form: { types: [TYPE] } },
} as const satisfies WireRules;

/** The caller's deadline is its own: an append cannot be taken back. */
export function isPlainPublish({ method, headers }: HttpRequest, path: string): boolean {
  return (
    path === PATH &&
    method === "POST" &&
    headers["content-type"] === TYPE &&
    (headers["content-encoding"] ?? "identity") === "identity"
  );
}

export interface PublishOptions extends EventServiceOptions {
  check: ReturnType<typeof createMessageCheck>;
}

export function createPublishWire(edge: Edge, options: PublishOptions): Wire {
  function store(entry: Entry, body: Uint8Array, traceparent: string | undefined) {
    const message = Buffer.from(body.buffer, body.byteOffset, body.length);
    const cut = cutPublishMessage(message, options.maxEvents);
    const order = cut ? { ...cut, read: () => cut.events } : orderOf(message, options);
    return publishEvents(order, { entry, traceparent }, options);
  }

  return {
    async answer(request, { traceparent }) {
      using entry = edge(request, PUBLISH_RULES);
      // Not kept in a variable, which would hold the body until the log has the events.
      const verdict = await entry.readBody().then((body) => store(entry, body, traceparent));
      const bytes = Buffer.from(toBinary(PublishResponseSchema, toResponse(verdict)));
      return new Reply(200, bytes, { "content-type": TYPE });
    },
    refusalHead: ({ code }) => ({ status: codeToHttpStatus(code), headers: { "content-type": "application/json" } }),
    refusalBody: ({ code, message }) => ({ code: codeToString(code), message }),
  };
}

/** The plain path. Throws Refused. */
function orderOf(message: Buffer, { check }: PublishOptions): PublishOrder {
  const checked = check(PATH, message, false);
  try {
    const request = fromBinary(PublishRequestSchema, checked, { readUnknownFields: false });
    const { events, checkStored, returnPositions } = request;
    return { count: events.length, checkStored, returnPositions, read: () => events.map(readEvent) };
  } catch (error) {
    // It throws for nothing else than bytes that are no protobuf; the library words it so.
    throw refused("body_invalid", { field: "parse binary", fault: (error as Error).message }, error);
  }
}
