// HTTP/1.1 and HTTP/2 on one port. Node has no such server in cleartext: the first bytes of a connection decide which of
// two servers gets it (HTTP/2 begins with a fixed 24-byte preface). Under TLS the two agree on the protocol by ALPN.
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import type { TLSSocket } from "node:tls";
import type { TlsFiles } from "#lib/config/tls-settings.ts";
import type { Logger } from "#lib/process/log.ts";
import { listenHost } from "./addresses.ts";
import { type ConnectionLimits, limitConnections } from "./connection-limits.ts";
import { describeListenError } from "./listen-error.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";
import { createTlsServer } from "./tls.ts";
import { guardUnreadBody } from "./unread-body.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** All headers of a request together: pages of a large site bring 16 KiB of cookies. */
const HEADER_BYTES_MAX = 32 * 1024;

/** Time for a peer to close a session that it has been told is over. */
const GOAWAY_LINGER_MS = 1_000;

export interface HttpListenerOptions extends ConnectionLimits {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** Environment name of the port's setting, for the remedy when the port is taken. */
  setting: string;
  /** Absent: plain HTTP. */
  tls?: TlsFiles | undefined;
  /** Time for a TLS handshake, for a connection to show its protocol, and for a request's head to be complete. */
  headersTimeoutMs: number;
  /** Time for a whole HTTP/1.1 request. */
  requestTimeoutMs: number;
  /** Time without a request after which a connection is closed. */
  idleTimeoutMs: number;
  handle(request: HttpRequest, response: HttpResponse): void;
  logger: Logger;
}

/** Limits of a listener that only operators call. */
export const SMALL_LISTENER = {
  maxConnections: 1_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 10_000,
} as const;

export interface HttpListener {
  readonly port: number;
  readonly connections: number;
  /**
   * Stops accepting, tells HTTP/2 peers to go away, lets open requests end, and cuts what is left at the deadline.
   * Resolves when every connection is closed.
   */
  close(deadlineMs: number): Promise<void>;
}

/**
 * RFC 9112, section 3.2.2: a target with scheme and authority is one like any other, and its authority counts where Host
 * differs.
 */
function toOriginForm(request: HttpRequest): void {
  if (request.url?.startsWith("/")) return;
  const [absolute, authority = ""] = /^https?:\/\/([^/?#]*)/i.exec(request.url ?? "") ?? [];
  if (absolute === undefined || request.url === undefined) return;
  const rest = request.url.slice(absolute.length);
  request.url = rest.startsWith("/") ? rest : `/${rest}`;
  request.headers.host = authority.slice(authority.lastIndexOf("@") + 1);
}

/** Rejects with a sentence that says what to do when it cannot listen or its certificate is no good. */
export async function listenHttp(options: HttpListenerOptions): Promise<HttpListener> {
  const sockets = new Set<net.Socket>();
  const sessions = new Set<http2.ServerHttp2Session>();
  /** Connections whose protocol is not known yet, by peer: no server has them. */
  const undecided = new Map<string, net.Socket>();
  let closing = false;

  const handle = (request: HttpRequest, response: HttpResponse) => {
    if (closing && request.httpVersionMajor === 1) response.setHeader("connection", "close");
    toOriginForm(request);
    guardUnreadBody(request, response);
    options.handle(request, response);
  };
  const h1 = createH1(options, handle);
  const h2 = createH2(
    options,
    (request, response) => {
      // HTTP/2 calls it :authority; what asks for the host should find it in one place.
      request.headers.host ??= request.authority;
      handle(request, response);
    },
    sessions,
  );
  const decide = (socket: net.Socket, isH2: boolean) => {
    undecided.delete(peerOf(socket));
    if (!isH2) {
      h1.emit("connection", socket);
      return;
    }
    const onSession = (session: http2.ServerHttp2Session) => endWhenIdle(session, socket, options);
    h2.once("session", onSession).emit("connection", socket);
    h2.off("session", onSession);
  };
  const listener = await createListener(options);
  // Of a TLS server this is the raw socket, so that those in a handshake are known as well.
  limitConnections(listener, options, options, (socket) => {
    const peer = peerOf(socket);
    sockets.add(socket);
    undecided.set(peer, socket);
    socket.once("close", () => {
      sockets.delete(socket);
      if (undecided.get(peer) === socket) undecided.delete(peer);
    });
    // Resets and half-closed writes belong to the peer; the server that has the socket hears of them as well.
    socket.on("error", () => socket.destroy());
    if (!options.tls) dispatchByPreface(socket, options.headersTimeoutMs, (isH2) => decide(socket, isH2));
  });
  listener.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", () => socket.destroy());
    decide(socket, socket.alpnProtocol === "h2");
  });

  try {
    await new Promise<void>((resolve, reject) => {
      listener.once("error", reject);
      listener.listen({ host: listenHost(options.host), port: options.port, backlog: 1024 }, resolve);
    });
  } catch (error) {
    throw describeListenError(error, options);
  }
  listener.on("error", (err) => options.logger.error({ err }, "cannot accept connections"));

  return {
    port: (listener.address() as net.AddressInfo).port,
    get connections() {
      return sockets.size;
    },
    async close(deadlineMs) {
      closing = true;
      const closed = new Promise((resolve) => listener.close(resolve));
      for (const socket of undecided.values()) socket.destroy();
      for (const session of sessions) session.close();
      // A keep-alive connection becomes idle only after its last answer, hence again and again.
      const sweep = setInterval(() => h1.closeIdleConnections(), 20);
      h1.closeIdleConnections();
      const cut = setTimeout(() => {
        for (const session of sessions) session.destroy();
        for (const socket of sockets) socket.destroy();
      }, deadlineMs);
      await closed;
      clearInterval(sweep);
      clearTimeout(cut);
      h1.close();
    },
  };
}

/** Of a TLS socket the same as of the raw one beneath it, to which nothing else leads. */
function peerOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

async function createListener({ tls, headersTimeoutMs, logger }: HttpListenerOptions): Promise<net.Server> {
  if (!tls) return net.createServer({ noDelay: true, keepAlive: true });
  const protocols = ["h2", "http/1.1"];
  return createTlsServer({ files: tls, protocols, handshakeTimeoutMs: headersTimeoutMs, logger });
}

function createH1(options: HttpListenerOptions, handle: http.RequestListener): http.Server {
  const server = http.createServer(
    {
      headersTimeout: options.headersTimeoutMs,
      requestTimeout: options.requestTimeoutMs,
      keepAliveTimeout: options.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, options.headersTimeoutMs),
      maxHeaderSize: HEADER_BYTES_MAX,
    },
    handle,
  );
  // It never listens itself, and without this event it neither tracks its connections nor enforces its timeouts.
  server.emit("listening");
  return server;
}

function createH2(
  options: HttpListenerOptions,
  handle: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void,
  sessions: Set<http2.ServerHttp2Session>,
): http2.Http2Server {
  const server = http2.createServer(
    {
      settings: { maxConcurrentStreams: 256, initialWindowSize: 256 * 1024, maxHeaderListSize: HEADER_BYTES_MAX },
      maxSessionMemory: 64,
    },
    handle,
  );
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    // Garbage after the preface ends the session; Node has closed it already, and other sessions are not concerned.
    session.on("error", (err) => options.logger.debug({ err }, "http2 session failed"));
  });
  server.on("sessionError", (err) => options.logger.debug({ err }, "http2 session failed"));
  server.on("stream", (stream) => stream.on("error", (err) => options.logger.debug({ err }, "http2 stream failed")));
  return server;
}

/**
 * Ends a session without requests, whatever else the peer sends: its first one has the time of a request's head. Node
 * leaves the socket open until the peer closes it as well, which a hostile one never does.
 */
function endWhenIdle(
  session: http2.ServerHttp2Session,
  socket: net.Socket,
  { headersTimeoutMs, idleTimeoutMs }: HttpListenerOptions,
): void {
  let openStreams = 0;
  const endAfter = (ms: number) =>
    setTimeout(() => {
      session.close();
      timer = setTimeout(() => socket.destroy(), GOAWAY_LINGER_MS);
    }, ms);
  let timer = endAfter(headersTimeoutMs);
  session.on("stream", (stream) => {
    openStreams++;
    clearTimeout(timer);
    stream.once("close", () => {
      openStreams--;
      if (openStreams === 0 && !socket.destroyed) timer = endAfter(idleTimeoutMs);
    });
  });
  socket.once("close", () => clearTimeout(timer));
}

/** Reads until the bytes differ from the preface or complete it, puts them back and says which protocol it is. */
function dispatchByPreface(socket: net.Socket, timeoutMs: number, decide: (isH2: boolean) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const onClose = () => clearTimeout(timer);
  const onReadable = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) seen = Buffer.concat([seen, chunk]);
    if (seen.length === 0) return;
    const compared = Math.min(seen.length, PREFACE.length);
    const matches = seen.subarray(0, compared).equals(PREFACE.subarray(0, compared));
    if (matches && seen.length < PREFACE.length) return;
    clearTimeout(timer);
    socket.off("readable", onReadable);
    socket.off("close", onClose);
    socket.unshift(seen);
    decide(matches);
  };
  socket.on("close", onClose);
  socket.on("readable", onReadable);
}
