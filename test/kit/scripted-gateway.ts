// An HTTP server in the place of a gateway, for weather that a real one cannot be made to have: every request is answered
// as the test says, and what was taken is kept.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Event,
  type PublishRequest,
  PublishRequestSchema,
  PublishResponseSchema,
  type Rejection,
} from "#gen/millrace/events/v1/events_pb.ts";

export type Weather =
  /** Takes all of it. */
  | "take"
  /** Takes all of it; the caller never hears of that. */
  | "take and cut"
  /** Reads the request and says nothing. */
  | "hang"
  /** Takes what is not listed. */
  | { rejected: Pick<Rejection, "index" | "code" | "message" | "retryable">[] }
  | { status: number; headers?: Record<string, string>; body?: string };

export interface Received {
  request: PublishRequest;
  /** As they came. */
  bytes: number;
  headers: IncomingMessage["headers"];
  /** Monotonic milliseconds. */
  at: number;
}

export interface ScriptedGateway extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly Received[];
  /** Events that were taken, in order; a repeated one as often as it was. */
  readonly taken: readonly Event[];
  takenNames(): string[];
}

/** Speaks the Connect protocol only. `weatherOf` is asked for each request, counted from 1. */
export async function startScriptedGateway(
  weatherOf: (request: Received, count: number) => Weather,
): Promise<ScriptedGateway> {
  const requests: Received[] = [];
  const taken: Event[] = [];

  async function answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(message);
    const request = fromBinary(
      PublishRequestSchema,
      message.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body,
    );
    const received = { request, bytes: body.length, headers: message.headers, at: performance.now() };
    requests.push(received);
    const weather = weatherOf(received, requests.length);
    if (weather === "hang") return;
    if (typeof weather === "object" && "status" in weather) {
      response.writeHead(weather.status, weather.headers).end(weather.body);
      return;
    }
    const rejected = typeof weather === "object" ? weather.rejected : [];
    const refused = new Set(rejected.map(({ index }) => index));
    const accepted = request.events.filter((_event, index) => !refused.has(index));
    taken.push(...accepted);
    if (weather === "take and cut") {
      message.socket.resetAndDestroy();
      return;
    }
    const init = { accepted: accepted.length, rejected: rejected.map((each) => ({ ...each, field: "" })) };
    const verdict = toBinary(PublishResponseSchema, create(PublishResponseSchema, init));
    response.writeHead(200, { "content-type": "application/proto" }).end(verdict);
  }

  const server = createServer((message, response) => {
    answer(message, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    taken,
    takenNames: () => taken.map(({ event }) => event),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
