import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFile } from "node:fs/promises";
import { type ClientRequest, createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from "node:tls";
import { describe, expect, it } from "vitest";
import { createTestCertificates } from "../../../test/kit/certificates.ts";
import { atMost, patience } from "../../../test/kit/patience.ts";
import { createWebhook, type WebhookConfig, WebhookError } from "./webhook.ts";
import type { Resolve } from "./webhook-address.ts";

const OPEN: WebhookConfig = { webhookTimeout: 5000, webhookSecret: undefined, webhookAllowPrivate: true };
const CLOSED: WebhookConfig = { ...OPEN, webhookAllowPrivate: false };
const { signal } = new AbortController();

async function listen(listener: RequestListener) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const sockets = new Set<Duplex>();
  return {
    port,
    onConnect: (take: (request: IncomingMessage, socket: Duplex) => void) =>
      server.on("connect", (request: IncomingMessage, socket: Duplex) => {
        sockets.add(socket);
        socket.on("error", () => undefined);
        take(request, socket);
      }),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
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

describe("a webhook through a proxy", () => {
  /** Says what it was asked for. Requests it answers itself; tunnels lead to this machine, wherever they should. */
  async function startProxy(answer: "refuse" | "tunnel" | "hang" = "refuse") {
    const asked: string[] = [];
    const server = await listen((request, response) => {
      asked.push(`${request.method} ${request.url} host=${request.headers.host}`);
      response.end();
    });
    server.onConnect((request, socket) => {
      asked.push(`CONNECT ${request.url}`);
      const port = Number(request.url?.split(":").at(-1));
      if (answer === "refuse") socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
      if (answer === "tunnel") {
        const onward = connect(port, "127.0.0.1", () => socket.write("HTTP/1.1 200 OK\r\n\r\n"));
        pipeline(socket, onward, socket, () => onward.destroy());
      }
    });
    const url = `http://127.0.0.1:${server.port}`;
    return { asked, env: { HTTP_PROXY: url, HTTPS_PROXY: url }, [Symbol.asyncDispose]: server[Symbol.asyncDispose] };
  }
  const resolvesTo = (address: string): Resolve => {
    return (_name, _options, callback) => callback(null, [{ address, family: 4 }]);
  };
  const send = (post: string, config: WebhookConfig, proxyEnv: NodeJS.ProcessEnv, resolve = resolvesTo("1.1.1.1")) =>
    createWebhook(config, () => 0, { proxyEnv, resolve })({ post, body: "{}\n", transitionId: "t", signal });

  it("is asked for under the address that was checked, so that the proxy cannot find another one", async () => {
    await using proxy = await startProxy();
    expect(await send("http://hooks.example:8080/a?b", CLOSED, proxy.env)).toEqual({ status: 200 });
    await expect(send("https://hooks.example/a", CLOSED, proxy.env)).rejects.toBeInstanceOf(WebhookError);
    expect(proxy.asked).toEqual(["POST http://1.1.1.1:8080/a?b host=1.1.1.1:8080", "CONNECT 1.1.1.1:443"]);
  });

  it("speaks TLS with the name or address of its URL, through a tunnel to the address", async () => {
    await using certificates = await createTestCertificates();
    const trusted = getCACertificates("default");
    setDefaultCACertificates([...trusted, await certificates.make("receiver", "localhost")]);
    const [cert, key] = await Promise.all(
      [certificates.certFile("receiver"), certificates.keyFile("receiver")].map((file) => readFile(file)),
    );
    const seen: unknown[] = [];
    const server = createHttpsServer({ cert, key }, (request, response) => {
      seen.push([(request.socket as TLSSocket).servername, request.headers.host]);
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await using proxy = await startProxy("tunnel");
    try {
      expect(await send(`https://localhost:${port}/hook`, CLOSED, proxy.env)).toEqual({ status: 200 });
      const toAddress = send(`https://[2606:4700::1111]:${port}/hook`, CLOSED, proxy.env);
      await expect(toAddress).rejects.toThrow("IP: 2606:4700::1111 is not in the cert's list: 127.0.0.1");
    } finally {
      setDefaultCACertificates(trusted);
      server.closeAllConnections();
      server.close();
    }
    expect(seen).toEqual([["localhost", `localhost:${port}`]]);
    expect(proxy.asked).toEqual([`CONNECT 1.1.1.1:${port}`, `CONNECT [2606:4700::1111]:${port}`]);
  });

  it("is not sent where the name is a private address", async () => {
    await using proxy = await startProxy();
    const rejected = send("https://hooks.example/a", CLOSED, proxy.env, resolvesTo("10.0.0.1"));
    await expect(rejected).rejects.toThrow("hooks.example resolves to 10.0.0.1, which is a private address");
    await expect(send("https://10.0.0.1/a", CLOSED, proxy.env)).rejects.toThrow("10.0.0.1 is a private address");
    expect(proxy.asked).toEqual([]);
  });

  it("goes by its name where private addresses are allowed, and past the proxy where NO_PROXY says so", async () => {
    await using proxy = await startProxy();
    await using receiver = await listen((_request, response) => response.end());
    expect(await send("http://hooks.example/a", OPEN, proxy.env)).toEqual({ status: 200 });
    const direct = { ...proxy.env, NO_PROXY: "127.0.0.1" };
    expect(await send(`http://127.0.0.1:${receiver.port}/`, OPEN, direct)).toEqual({ status: 200 });
    expect(proxy.asked).toEqual(["POST http://hooks.example/a host=hooks.example"]);
  });

  /** Host of the request that is made, which is ended before it has a connection. */
  async function hostSaid(post: string, env: NodeJS.ProcessEnv): Promise<unknown> {
    let host: unknown;
    const see = (message: unknown) => {
      const { request } = message as { request: ClientRequest };
      host = request.getHeader("host");
      request.destroy(new Error("seen"));
    };
    subscribe("http.client.request.created", see);
    try {
      await expect(send(post, CLOSED, env)).rejects.toThrow("seen");
    } finally {
      unsubscribe("http.client.request.created", see);
    }
    return host;
  }

  it.each([
    ["hooks.example", "http://hooks.example/"],
    [" Other.example, .EXAMPLE", "http://hooks.example/"],
    ["*.example", "http://hooks.example/"],
    ["hooks.example:80", "http://hooks.example/"],
    ["*", "http://hooks.example/"],
  ])("is not asked for a name in NO_PROXY=%s, whose address is checked all the same", async (names, post) => {
    await using proxy = await startProxy();
    const env = { ...proxy.env, NO_PROXY: names };
    expect(await hostSaid(post, env)).toBe("hooks.example");
    await expect(send(post, CLOSED, env, resolvesTo("10.0.0.1"))).rejects.toThrow("hooks.example resolves to 10.0.0.1");
    expect(proxy.asked).toEqual([]);
  });

  it.each([{}, { HTTPS_PROXY: "http://127.0.0.1:1" }, { HTTP_PROXY: "socks5://127.0.0.1:1" }])(
    "that is not for this scheme has no part in it: the receiver is told its name, with %j",
    async (env) => {
      expect(await hostSaid("http://hooks.example:8080/", env)).toBe("hooks.example:8080");
    },
  );

  it("is asked for a name that NO_PROXY does not have, whatever it says of the address", async () => {
    await using proxy = await startProxy();
    const env = { ...proxy.env, NO_PROXY: "1.1.1.1, example, hooks.example:81, *.hooks.example" };
    expect(await send("http://hooks.example/a", CLOSED, env)).toEqual({ status: 200 });
    expect(proxy.asked).toEqual(["POST http://1.1.1.1/a host=1.1.1.1"]);
  });

  it("that hangs is cut off by the timeout", async () => {
    await using proxy = await startProxy("hang");
    const config = { ...CLOSED, webhookTimeout: patience(200) };
    await expect(send("https://hooks.example/a", config, proxy.env)).rejects.toThrow("no answer within");
    expect(proxy.asked).toEqual(["CONNECT 1.1.1.1:443"]);
  });
});
