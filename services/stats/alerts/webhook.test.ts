import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { atMost, patience } from "../../../test/kit/patience.ts";
import { createWebhook, type WebhookConfig, WebhookError } from "./webhook.ts";

const OPEN: WebhookConfig = { webhookTimeout: 5000, webhookSecret: undefined, webhookAllowPrivate: true };
const CLOSED: WebhookConfig = { ...OPEN, webhookAllowPrivate: false };
const { signal } = new AbortController();

async function listen(listener: RequestListener) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function call(post: string, config = OPEN) {
  return createWebhook(config, () => 0)({ post, body: "{}\n", transitionId: "t", signal });
}

describe("a webhook", () => {
  it("has taken what it answers with 2xx, however its answer ends", async () => {
    await using server = await listen((request, response) => {
      response.writeHead(202);
      if (request.url === "/cut") response.write("x", () => response.destroy());
      else if (request.url === "/endless") response.write("x");
      else response.end("x".repeat(1_000_000));
    });
    const at = (path: string) =>
      call(`http://127.0.0.1:${server.port}${path}`, { ...OPEN, webhookTimeout: patience(200) });
    for (const path of ["/", "/cut", "/endless"]) expect(await at(path)).toEqual({ status: 202 });
  });

  it("is read no further than 64 KB", async () => {
    let written = 0;
    const closed = Promise.withResolvers<void>();
    await using server = await listen((_request, response) => {
      response.writeHead(200);
      const write = () => {
        while (!response.destroyed && response.write("x".repeat(65_536))) written += 65_536;
      };
      response.on("drain", write).on("close", () => closed.resolve());
      write();
    });
    expect(await call(`http://127.0.0.1:${server.port}/`)).toEqual({ status: 200 });
    await closed.promise;
    // What the sockets hold between the two, and not an endless body.
    expect(written).toBeLessThan(32_000_000);
  });

  it("that does not answer is cut off by the timeout", async () => {
    await using server = await listen(() => undefined);
    const begun = performance.now();
    await expect(call(`http://127.0.0.1:${server.port}/`, { ...OPEN, webhookTimeout: 100 })).rejects.toThrow(
      new WebhookError("no answer within 100 ms"),
    );
    expect(performance.now() - begun).toBeLessThan(atMost(2000));
  });

  it("that redirects is not followed, and the error says where to", async () => {
    let requests = 0;
    await using server = await listen((_request, response) => {
      requests++;
      response.writeHead(307, { location: "http://169.254.169.254/latest/meta-data" }).end();
    });
    await expect(call(`http://127.0.0.1:${server.port}/`)).rejects.toMatchObject({
      ...{ name: "WebhookError", status: 307 },
      message: "redirects are not followed: 307 to http://169.254.169.254/latest/meta-data",
    });
    expect(requests).toBe(1);
  });

  it("that answers anything else has not taken it", async () => {
    await using server = await listen((_request, response) => void response.writeHead(503).end());
    await expect(call(`http://127.0.0.1:${server.port}/`)).rejects.toMatchObject({
      ...{ name: "WebhookError", status: 503, message: "the receiver answered 503" },
    });
  });

  it.each([
    ["127.0.0.1", "127.0.0.1 is a loopback address"],
    ["localhost", "localhost resolves to"],
    ["[::1]", "::1 is a loopback address"],
  ])("on this machine is not called unless allowed: %s", async (host, message) => {
    let requests = 0;
    await using server = await listen((_request, response) => {
      requests++;
      response.end();
    });
    await expect(call(`http://${host}:${server.port}/`, CLOSED)).rejects.toMatchObject({
      ...{ name: "WebhookError", status: undefined, message: expect.stringContaining(message) },
    });
    expect(requests).toBe(0);
  });

  it.each(["ftp://a.example/", "file:///etc/passwd", "not a url", ""])("is http or https: %j", async (post) => {
    await expect(call(post)).rejects.toThrow(new WebhookError("the URL is not an http or https address"));
  });

  it("is named with its transition, and signed when there is a secret", async () => {
    const headers: unknown[] = [];
    await using server = await listen((request, response) => {
      headers.push(request.headers);
      response.end();
    });
    const url = `http://127.0.0.1:${server.port}/`;
    await call(url);
    await call(url, { ...OPEN, webhookSecret: "s" });
    expect(headers).toMatchObject([
      { "content-type": "application/json", "content-length": "3", "x-millrace-transition": "t" },
      { "x-millrace-signature": expect.stringMatching(/^t=0,v1=[0-9a-f]{64}$/) },
    ]);
    expect(headers[0]).not.toHaveProperty("x-millrace-signature");
  });

  it("is given up when its caller stops", async () => {
    await using server = await listen(() => undefined);
    const stopping = new AbortController();
    const post = `http://127.0.0.1:${server.port}/`;
    const sending = createWebhook(OPEN, () => 0)({ post, body: "{}", transitionId: "t", signal: stopping.signal });
    stopping.abort(new Error("stopping"));
    await expect(sending).rejects.toThrow("stopping");
  });
});
