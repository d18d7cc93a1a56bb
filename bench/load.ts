// Load generator, a process of its own: sends prepared requests as fast as they are answered, or at a given rate, and
// tells its parent what was acknowledged.
import http from "node:http";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { PublishResponseSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { isWireKind, type Kind, type PreparedRequest, prepareRequests } from "./requests.ts";

export interface LoadOrder {
  port: number;
  kind: Kind;
  seconds: number;
  connections: number;
  /** Requests take these sizes in turn. */
  eventsPerRequest: readonly number[];
  /** Events a second over all connections; undefined: as fast as possible. */
  eventsPerSecond?: number;
  /** Send every second request without a declared length. */
  chunked?: boolean;
}

export interface LoadResult {
  /** Events sent. */
  events: number;
  /** Events that the answers say are durable. */
  acked: number;
  /** From the first request to the last answer. */
  seconds: number;
  /** Answers by status ("200", "503", "grpc 8"), and by error code what was cut off without one ("EPIPE"). */
  statuses: Record<string, number>;
}

interface Answer {
  status: string;
  accepted: number;
}

type Send = (request: PreparedRequest, chunked: boolean) => Promise<Answer>;

const HOST = "127.0.0.1";
const VARIANTS = 20;

async function runLoad(order: LoadOrder): Promise<LoadResult> {
  const { kind, connections, eventsPerSecond } = order;
  const requests = prepareRequests(kind, VARIANTS, order.eventsPerRequest);
  const send = kind === "grpc" ? grpcSender(order) : httpSender(order);
  const result: LoadResult = { events: 0, acked: 0, seconds: 0, statuses: {} };
  const begun = performance.now();
  const end = begun + order.seconds * 1000;
  let sent = 0;

  async function sendOn(): Promise<void> {
    for (;;) {
      const n = sent++;
      const request = requests[n % requests.length] as PreparedRequest;
      const due = eventsPerSecond ? begun + (result.events / eventsPerSecond) * 1000 : 0;
      if (Math.max(due, performance.now()) >= end) return;
      // Counted before the wait, so that every connection draws the next moment and not the same one.
      result.events += request.events;
      if (due > performance.now()) await sleep(due - performance.now());
      const { status, accepted } = await send(request, order.chunked === true && n % 2 === 1);
      result.acked += accepted;
      result.statuses[status] = (result.statuses[status] ?? 0) + 1;
    }
  }

  await Promise.all(Array.from({ length: connections }, sendOn));
  result.seconds = (performance.now() - begun) / 1000;
  return result;
}

function httpSender({ port, kind, connections }: LoadOrder): Send {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  return ({ path, headers, body, events }, chunked) =>
    new Promise((resolve) => {
      const length = chunked ? {} : { "content-length": String(body.length) };
      const request = http.request(
        { host: HOST, port, path, method: "POST", agent, headers: { ...headers, ...length } },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () => {
            const status = String(response.statusCode);
            resolve({ status, accepted: status.startsWith("2") ? acceptedOf(kind, events, Buffer.concat(chunks)) : 0 });
          });
          response.on("error", (error) => resolve({ status: errorCode(error), accepted: 0 }));
        },
      );
      // A refusal before the body was read ends the connection under what is still being sent.
      request.on("error", (error) => resolve({ status: errorCode(error), accepted: 0 }));
      request.end(body);
    });
}

function errorCode(error: NodeJS.ErrnoException): string {
  return error.code ?? error.name;
}

function acceptedOf(kind: Kind, events: number, body: Buffer): number {
  // Their bodies name what is at fault, which is nothing; rows are counted.
  if (kind === "events" || isWireKind(kind)) return events;
  if (kind === "batch") return (JSON.parse(body.toString()) as { ingested: number }).ingested;
  if (kind === "connect-json") return fromJsonString(PublishResponseSchema, body.toString()).accepted;
  return fromBinary(PublishResponseSchema, body).accepted;
}

function grpcSender({ port, connections }: LoadOrder): Send {
  const sessions = Array.from({ length: connections }, () => http2.connect(`http://${HOST}:${port}`));
  let next = 0;
  return ({ path, headers, body }) =>
    new Promise((resolve, reject) => {
      const session = sessions[next++ % sessions.length] as http2.ClientHttp2Session;
      const stream = session.request({ ":method": "POST", ":path": path, ...headers });
      const chunks: Buffer[] = [];
      let status: string | undefined;
      // An error without a message puts its status into the head.
      const noteStatus = (head: http2.IncomingHttpHeaders) => {
        if (head["grpc-status"] !== undefined) status = String(head["grpc-status"]);
      };
      stream.on("response", noteStatus);
      stream.on("trailers", noteStatus);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("end", () => {
        const isOk = status === "0";
        const accepted = isOk ? fromBinary(PublishResponseSchema, Buffer.concat(chunks).subarray(5)).accepted : 0;
        resolve({ status: isOk ? "200" : `grpc ${status ?? "without status"}`, accepted });
      });
      stream.end(body);
    });
}

process.once("message", (order: LoadOrder) => {
  // A failure here is one of the benchmark: it ends the process, and the parent says so.
  // Its parent ends it, after a look at its CPU.
  void runLoad(order).then((result) => process.send?.(result));
});
process.once("disconnect", () => process.exit(1));
