// Answers given before the body was read, to callers who first send all they have and only then listen.
import { once } from "node:events";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { patience } from "../../test/kit/patience.ts";
import { guardUnreadBody } from "./unread-body.ts";

const MiB = 1024 * 1024;
let server: http.Server;
let readBytes: number;
beforeAll(async () => {
  server = http.createServer((request, response) => {
    guardUnreadBody(request, response);
    response.writeHead(413, { "content-type": "text/plain" }).end("too large");
  });
  server.on("connection", (socket) => socket.once("close", () => (readBytes = socket.bytesRead)));
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => server.close());

it.each([
  ["of 64 KB", 64 * 1024],
  ["of 1 MB", MiB],
  ["of 3 MB", 3 * MiB],
  ["of 4 MB", 4 * MiB],
])("a body %s is sent whole, and then the answer is there", async (_, length) => {
  const socket = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  socket.pause();
  socket.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${length}\r\n\r\n`);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.write(Buffer.alloc(length), () => resolve());
  });
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk.toString();
  });
  socket.resume();
  await once(socket, "end");
  expect(answer).toMatch(/^HTTP\/1\.1 413 .*connection: close.*too large/is);
  socket.destroy();
});

it("a body without an end is read for a few megabytes, and its connection is closed", async () => {
  const socket = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.on("error", () => undefined); // Its end, while it still sends.
  const closed = once(server, "connection").then(([peer]) => once(peer as net.Socket, "close"));
  await once(socket, "connect");
  socket.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
  const chunk = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(0x10000), Buffer.from("\r\n")]);
  socket.on("drain", () => socket.write(chunk));
  socket.write(Buffer.concat(Array(8).fill(chunk)));
  const begun = performance.now();
  await closed;
  expect(performance.now() - begun).toBeLessThan(patience(2_000));
  expect(readBytes).toBeLessThan(8 * MiB);
  socket.destroy();
});
