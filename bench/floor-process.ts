// What HTTP and JSON cost without Millrace: a bare server of node:http that collects a body, parses it and answers.
import http from "node:http";
import { serveMeter } from "./meter.ts";

interface Body {
  batch?: unknown[];
}

const server = http.createServer((request, response) => {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => {
    const body = JSON.parse(Buffer.concat(pieces).toString()) as Body;
    const answer = Buffer.from(JSON.stringify({ ingested: body.batch?.length ?? 1 }));
    response.writeHead(200, { "content-type": "application/json", "content-length": answer.length });
    response.end(answer);
  });
});

const service = {
  [Symbol.asyncDispose]() {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    return closed;
  },
};

server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  serveMeter(service, { port: typeof address === "object" ? address?.port : undefined });
});
