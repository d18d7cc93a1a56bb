// An EventSource's side of GET /watch, and peers that read nothing.
import { once } from "node:events";
import http from "node:http";
import { TOKEN } from "./stats-live.ts";

export interface Source extends AsyncDisposable {
  status: number;
  headers: http.IncomingHttpHeaders;
  text(): string;
  /** Values of the points so far. */
  points(): number[];
  statuses(): unknown[];
  resume(): void;
  closed: Promise<void>;
}

export function getWatch(
  port: number,
  path = "/watch",
  headers: http.OutgoingHttpHeaders = { "x-auth-token": TOKEN },
): Promise<Source> {
  return sourceOf(http.get({ host: "127.0.0.1", port, path, headers, agent: false }), false);
}

/** Takes nothing of the body until it is told to. With a body it is a call of Connect. */
export function stalledWatch(port: number, path: string, body?: Buffer): Promise<Source> {
  const method = body ? "POST" : "GET";
  const headers = { "x-auth-token": TOKEN, ...(body ? { "content-type": "application/connect+json" } : {}) };
  const request = http.request({ host: "127.0.0.1", port, path, method, headers, agent: false });
  request.end(body);
  return sourceOf(request, true);
}

async function sourceOf(request: http.ClientRequest, paused: boolean): Promise<Source> {
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  // Cut off by the server or by this test: what was read until then is what counts.
  response.on("error", () => {});
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  let text = "";
  const read = () =>
    response.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  if (!paused) read();
  const parts = () => text.split("\n\n").slice(0, -1);
  const dataOf = (part: string) => JSON.parse(/^data: (.*)$/m.exec(part)?.[1] ?? "null");
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text: () => text,
    points: () => parts().flatMap((part) => (part.startsWith("id: ") ? [dataOf(part).value as number] : [])),
    statuses: () => parts().flatMap((part) => (part.startsWith("event: status") ? [dataOf(part) as unknown] : [])),
    resume: () => void read(),
    closed,
    async [Symbol.asyncDispose]() {
      request.destroy();
      await closed;
    },
  };
}
