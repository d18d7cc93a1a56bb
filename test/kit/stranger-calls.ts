// The wires of the gateway as a table: what a caller needs of each to send a body, in any encoding, with or without a key.
import { once } from "node:events";
import type { OutgoingHttpHeaders } from "node:http";
import http2 from "node:http2";
import { encode } from "#lib/http/encodings.ts";
import { type Answer, callH1, envelope } from "./http-calls.ts";

const SERVICE = "/millrace.events.v1.EventService";
export const SINGLE = '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}';
export const RPC_BODY = '{"events":[{"event":"e"}]}';

export interface Wire {
  path: string;
  type: string;
  /** HTTP status or gRPC status of an answer. */
  statusOf(answer: Answer): string;
  /** Header that names the encoding, and whether each message is a frame. */
  encodingHeader: string;
  framed: boolean;
  h2: boolean;
}

const http = { encodingHeader: "content-encoding", framed: false, h2: false };
const status = (answer: Answer) => String(answer.status);

export const WIRES: Record<string, Wire> = {
  "/events": { ...http, path: "/events", type: "application/json", statusOf: status },
  "/batch/": { ...http, path: "/batch/", type: "application/json", statusOf: status },
  "/admin/replay": { ...http, path: "/admin/replay", type: "application/json", statusOf: status },
  "/admin/refused": { ...http, path: "/admin/refused", type: "application/json", statusOf: status },
  Connect: { ...http, path: `${SERVICE}/Publish`, type: "application/json", statusOf: status },
  "Connect stream": {
    path: `${SERVICE}/PublishStream`,
    type: "application/connect+json",
    encodingHeader: "connect-content-encoding",
    framed: true,
    h2: true,
    statusOf: ({ text }) => /"code":"(\w+)"/.exec(text)?.[1] ?? "ok",
  },
  gRPC: {
    path: `${SERVICE}/Publish`,
    type: "application/grpc",
    encodingHeader: "grpc-encoding",
    framed: true,
    h2: true,
    statusOf: ({ headers }) => `grpc ${String(headers["grpc-status"])}`,
  },
  "gRPC-Web": {
    path: `${SERVICE}/Publish`,
    type: "application/grpc-web+proto",
    encodingHeader: "grpc-encoding",
    framed: true,
    h2: false,
    statusOf: ({ text, headers }) => `grpc ${/grpc-status: ?(\d+)/.exec(text)?.[1] ?? String(headers["grpc-status"])}`,
  },
};

export async function send(
  port: number,
  wire: Wire,
  bytes: Uint8Array,
  { headers = {}, encoding = "identity" }: { headers?: OutgoingHttpHeaders; encoding?: string } = {},
): Promise<Answer> {
  const encoded = encoding === "identity" ? bytes : await encode(encoding, bytes);
  const body = wire.framed ? envelope(encoded, encoding === "identity" ? 0 : 1) : encoded;
  const named = encoding === "identity" ? {} : { [wire.encodingHeader]: encoding };
  const call = { headers: { "content-type": wire.type, ...named, ...headers }, body };
  return wire.h2 ? callH2(port, wire.path, call) : callH1(port, wire.path, call);
}

/** With the trailers among the headers: gRPC says there how a call went. */
async function callH2(
  port: number,
  path: string,
  { headers, body }: { headers: OutgoingHttpHeaders; body: Uint8Array },
): Promise<Answer> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": path, ...headers });
  stream.end(body);
  let trailers = {};
  stream.on("trailers", (given: object) => {
    trailers = given;
  });
  const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  const bytes = Buffer.concat((await Array.fromAsync(stream)) as Buffer[]);
  session.destroy();
  return { status: Number(head[":status"]), headers: { ...head, ...trailers }, body: bytes, text: bytes.toString() };
}
