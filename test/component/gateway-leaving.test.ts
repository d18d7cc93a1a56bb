// Callers who stop in the middle: nothing of them stays behind, and the connection beside theirs is served.
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { envelope } from "../kit/http-calls.ts";
import { GOOD, JSON_TYPE, PUBLISH, STREAM, watchGateway } from "../kit/watched-gateway.ts";

const watched = watchGateway();

describe("a caller who leaves", () => {
  it.each([PUBLISH, "/events"])("in the middle of a body to %s leaves nothing behind", async (path) => {
    const socket = net.connect(watched.gateway.port, "127.0.0.1");
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{`,
    );
    await expect.poll(() => watched.gateway.metric("millrace_gateway_in_flight_bytes")).toBe(1);
    socket.resetAndDestroy();
  });

  it.each([PUBLISH, "/events"])("in the middle of an HTTP/2 body to %s leaves nothing behind", async (path) => {
    const session = http2.connect(watched.gateway.url);
    const stream = session.request({ ":method": "POST", ":path": path, ...JSON_TYPE, "content-length": 100_000 });
    stream.on("error", () => {});
    stream.write("{");
    await expect.poll(() => watched.gateway.metric("millrace_gateway_in_flight_bytes")).toBe(1);
    session.destroy();
  });

  it("its HTTP/2 body unfinished is cut off when its time is over", async () => {
    const session = http2.connect(watched.gateway.url);
    const stream = session.request({ ":method": "POST", ":path": PUBLISH, ...JSON_TYPE, "content-length": 100_000 });
    stream.on("error", () => {});
    stream.write("{");
    await expect.poll(() => watched.gateway.metric("millrace_gateway_in_flight_bytes")).toBe(1);
    await once(stream, "close");
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
    session.destroy();
  });

  it("in the middle of a stream leaves nothing behind", async () => {
    const session = http2.connect(watched.gateway.url);
    const stream = session.request({ ":method": "POST", ":path": STREAM, "content-type": "application/connect+json" });
    stream.write(envelope(Buffer.from(GOOD)));
    await once(stream, "data");
    stream.write(envelope(Buffer.alloc(1000)).subarray(0, 500));
    await expect.poll(() => watched.gateway.metric("millrace_gateway_in_flight_bytes")).toBe(500);
    session.destroy();
  });

  it.each([PUBLISH, "/events"])(
    "%s: having declared the largest body, takes room for what came of it only",
    async (path) => {
      const socket = net.connect(watched.gateway.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(
        `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 20971520\r\n\r\n{`,
      );
      await expect.poll(() => watched.gateway.metric("millrace_gateway_in_flight_bytes")).toBe(1);
      expect((await watched.neighbour.call(PUBLISH, { headers: JSON_TYPE, body: GOOD })).status).toBe(200);
      socket.destroy();
    },
  );
});
