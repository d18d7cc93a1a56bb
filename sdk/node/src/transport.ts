// The three protocols of the gateway, over connections that can be closed.
import http from "node:http";
import https from "node:https";
import type { Interceptor, Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";

export type TransportName = "connect" | "grpc" | "grpc-web";

export interface TransportOptions {
  /** Address of the service: "https://events.example". A path is kept. */
  url: string;
  /** Sent as `authorization: Bearer KEY`. */
  apiKey?: string | undefined;
  /** Default "connect". "grpc" speaks HTTP/2, the others HTTP/1.1. */
  transport?: TransportName | undefined;
  /** Compresses requests of more than 1 KiB: for slow links, at about 3 us of CPU an event. Default false. */
  gzip?: boolean | undefined;
}

export interface OwnedTransport {
  transport: Transport;
  /** Cuts what is open; idle connections would keep the other side waiting. */
  close(): void;
}

/** Throws a TypeError for an invalid URL, transport or key. */
export function createTransport({
  url,
  apiKey,
  transport = "connect",
  gzip = false,
}: TransportOptions): OwnedTransport {
  const { protocol } = new URL(url);
  if (protocol !== "http:" && protocol !== "https:")
    throw new TypeError(`url: expected http or https, not ${protocol}`);
  if (apiKey !== undefined && !/^[\x21-\x7e]+$/.test(apiKey)) throw new TypeError("apiKey: expected one visible word");
  const authorize: Interceptor = (next) => (request) => {
    if (apiKey !== undefined) request.header.set("authorization", `Bearer ${apiKey}`);
    return next(request);
  };
  const common = {
    baseUrl: url,
    interceptors: [authorize],
    ...(gzip && { sendCompression: compressionGzip }),
  };
  if (transport === "grpc") {
    const sessionManager = new Http2SessionManager(url);
    const grpc = createGrpcTransport({ ...common, sessionManager });
    return { transport: grpc, close: () => sessionManager.abort() };
  }
  if (transport !== "connect" && transport !== "grpc-web") {
    throw new TypeError(`transport: expected connect, grpc or grpc-web, not ${String(transport)}`);
  }
  // An agent of one's own uses a proxy only when told to, also where Node's own ones do.
  const proxyEnv = process.env.NODE_USE_ENV_PROXY === "1" ? process.env : undefined;
  const agent = new (protocol === "https:" ? https : http).Agent({ keepAlive: true, proxyEnv });
  const create = transport === "connect" ? createConnectTransport : createGrpcWebTransport;
  return {
    transport: create({ ...common, httpVersion: "1.1", nodeOptions: { agent } }),
    close: () => agent.destroy(),
  };
}
