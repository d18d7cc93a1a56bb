// Load generator, a process of its own: sends prepared requests as fast as they are answered, or at a given rate, and
// tells its parent what was acknowledged.
import http from "node:http";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { PublishResponseSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { type Kind, type PreparedRequest, prepareRequests } from "./requests.ts";

export interface LoadOrder {
  port: number;
  kind: Kind;
  seconds: number;
  connections: number;
  eventsPerRequest: number;
  /** Events a second over all connections; undefined: as fast as possible. */
  eventsPerSecond?: number;
  /** Send every second request without a declared length. */
  chunked?: boolean;
}

export interface LoadResult {
  acked: number;
  requests: number;
  /** Answers by status: "200", "503", "grpc 8". */
  statuses: Record<string, number>;
}

interface Answer {
  status: string;
  accepted: number;
}

type Send = (request: PreparedRequest, chunked: boolean) => Promise<Answer>;

process.once("message", async (order: LoadOrder) => {
  process.send?.(await runLoad(order));
  process.disconnect();
  process.exit();
});

async function runLoad(order: LoadOrder): Promise<LoadResult> {
  const { kind, connections, eventsPerRequest, eventsPerSecond } = order;
  const requests = prepareRequests(kind, 20, eventsPerRequest);
  const perRequest = kind === "events" ? 1 : eventsPerRequest;
  const send = kind === "grpc" ? grpcSender(order) : httpSender(order);
  const result: LoadResult = { acked: 0, requests: 0, statuses: {} };
  const begun = performance.now();
  const end = begun + order.seconds * 1000;
  let next = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (;;) {
        const n = next++;
        if (eventsPerSecond)
          await sleep(Math.max(0, begun + ((n * perRequest) / eventsPerSecond) * 1000 - performance.now()));
        if (performance.now() >= end) return;
        const { status, accepted } = await send(
          requests[n % requests.length] as PreparedRequest,
          order.chunked === true && n % 2 === 1,
        );
        result.requests++;
        result.acked += accepted;
        result.statuses[status] = (result.statuses[status] ?? 0) + 1;
      }
    }),
  );
  return result;
}

function httpSender({ port, kind, connections }: LoadOrder): Send {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  return ({ path, headers, body }, chunked) =>
    new Promise((resolve) => {
      const length = chunked ? {} : { "content-length": String(body.length) };
      const request = http.request(
        { port, path, method: "POST", agent, headers: { ...headers, ...length } },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () => {
            const status = String(response.statusCode);
            resolve({ status, accepted: status === "200" ? acceptedOf(kind, Buffer.concat(chunks)) : 0 });
          });
          response.on("error", () => resolve({ status: "reset", accepted: 0 }));
        },
      );
      // A refusal before the body was read ends the connection under what is still being sent.
      request.on("error", (error: NodeJS.ErrnoException) => resolve({ status: error.code ?? "error", accepted: 0 }));
      request.end(body);
    });
}

function acceptedOf(kind: Kind, body: Buffer): number {
  if (kind === "events") return 1;
  if (kind === "connect-json") return fromJsonString(PublishResponseSchema, body.toString()).accepted;
  return fromBinary(PublishResponseSchema, body).accepted;
}

function grpcSender({ port }: LoadOrder): Send {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  return ({ path, headers, body }) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":method": "POST", ":path": path, ...headers });
      const chunks: Buffer[] = [];
      let status = "0";
      stream.on("response", (head) => {
        status = String(head["grpc-status"] ?? status);
      });
      stream.on("trailers", (trailers) => {
        status = String(trailers["grpc-status"] ?? status);
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("end", () => {
        const message = Buffer.concat(chunks).subarray(5);
        resolve({
          status: status === "0" ? "200" : `grpc ${status}`,
          accepted: status === "0" ? fromBinary(PublishResponseSchema, message).accepted : 0,
        });
      });
      stream.end(body);
    });
}
