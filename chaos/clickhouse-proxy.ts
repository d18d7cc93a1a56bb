// An HTTP proxy before ClickHouse that fails as ClickHouse, and what stands before it, fail.
import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

/**
 * status_500, status_503: every request is answered so, without an exception of ClickHouse's, as a load balancer does.
 * hang: every request is held and nothing is answered; when the fault is lifted, those still waiting go on.
 * close_after_insert: the insert reaches ClickHouse, which stores it; the caller gets a reset instead of the answer.
 * close_mid_insert: half of the body reaches ClickHouse, then both connections break.
 * too_many_parts: inserts are refused as ClickHouse does when merges cannot keep up.
 */
export type ClickHouseFault =
  | "status_500"
  | "status_503"
  | "hang"
  | "close_after_insert"
  | "close_mid_insert"
  | "too_many_parts";

export interface ClickHouseProxyOptions {
  /** URL of ClickHouse, asked for each request. */
  target: () => string;
}

export interface ClickHouseProxy extends AsyncDisposable {
  readonly url: string;
  /** Replaces the fault in force; undefined: none. `isHit` is asked for each request it could hit; default all are. */
  inject(fault: ClickHouseFault | undefined, isHit?: () => boolean): void;
  /** Requests on which a fault had its effect so far; close_after_insert counts only what ClickHouse stored. */
  hits(kind: ClickHouseFault): number;
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  target: string;
  /** The statement, as far as it can be read from the URL or the first bytes of the body. */
  statement: string;
  hit(): void;
  /** Fires when the faults change. */
  lifted: AbortSignal;
}

const HOST = "127.0.0.1";
const INSERT_ONLY: ReadonlySet<ClickHouseFault> = new Set(["close_after_insert", "close_mid_insert", "too_many_parts"]);
const STATEMENT_CHARACTERS_MAX = 1_000;
/** Longer than any client keeps an idle connection, so that no request meets a connection that is being closed. */
const KEEP_ALIVE_MS = 60_000;
/** Headers that belong to one connection and not to the request or answer on it. */
const HOP_HEADERS = new Set(["connection", "keep-alive", "transfer-encoding", "expect", "host"]);

const EFFECTS: Record<ClickHouseFault, (exchange: Exchange) => Promise<void>> = {
  status_500: (exchange) => answer(exchange, 500, "Internal Server Error\n"),
  status_503: (exchange) => answer(exchange, 503, "Service Unavailable\n"),
  hang,
  close_after_insert: closeAfterInsert,
  close_mid_insert: closeMidInsert,
  too_many_parts: tooManyParts,
};

/** Resolves when it listens, on a free port of loopback. Disposing breaks what is under way. */
export async function startClickHouseProxy({ target }: ClickHouseProxyOptions): Promise<ClickHouseProxy> {
  const hits = new Map<ClickHouseFault, number>();
  let injected: { fault: ClickHouseFault; isHit: () => boolean } | undefined;
  let change = new AbortController();

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const statement = await statementOf(request);
    // Read after the wait, so that no request meets a fault that has been lifted.
    const fault = injected;
    const hit = () => {
      if (fault) hits.set(fault.fault, (hits.get(fault.fault) ?? 0) + 1);
    };
    const exchange = { request, response, target: target(), statement, hit, lifted: change.signal };
    const chosen = fault !== undefined && (!INSERT_ONLY.has(fault.fault) || isInsert(statement));
    if (chosen && fault.isHit()) await EFFECTS[fault.fault](exchange);
    else await forward(exchange);
  }

  const server = http.createServer({ maxHeaderSize: 1024 * 1024, requestTimeout: 0 }, (request, response) => {
    // Whatever breaks between here and ClickHouse reaches the caller as a broken connection, as without a proxy.
    serve(request, response).catch(() => request.socket.resetAndDestroy());
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(0, HOST);
  await once(server, "listening");

  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    inject(fault, isHit = () => true) {
      injected = fault && { fault, isHit };
      change.abort();
      change = new AbortController();
    },
    hits: (kind) => hits.get(kind) ?? 0,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The URL's query comes first and the body after it, as in ClickHouse. A compressed body is not looked into. */
async function statementOf(request: IncomingMessage): Promise<string> {
  const inUrl = new URL(request.url ?? "/", "http://proxy").searchParams.get("query") ?? "";
  if (inUrl.trim() !== "" || request.method !== "POST") return inUrl;
  const first = await firstBytes(request);
  return first.subarray(0, STATEMENT_CHARACTERS_MAX).toString("utf8");
}

async function firstBytes(request: IncomingMessage): Promise<Buffer> {
  // Also at the end of a body without bytes.
  await once(request, "readable");
  const first = request.read() as Buffer | null;
  if (first === null) return Buffer.alloc(0);
  request.unshift(first);
  return first;
}

function isInsert(statement: string): boolean {
  return /^\s*insert\b/i.test(statement);
}

/** Sends the request on and resolves with ClickHouse's answer, whose body has not been read. */
async function send({ request, response, target }: Exchange): Promise<IncomingMessage> {
  const outgoing = openRequest(request, target);
  response.once("close", () => outgoing.destroy());
  // Before the answer an error rejects below; after it, it can only be about the part of the body nobody waited for.
  outgoing.on("error", () => undefined);
  request.pipe(outgoing);
  const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
  return incoming;
}

function openRequest(request: IncomingMessage, target: string): http.ClientRequest {
  return http.request(new URL(request.url ?? "/", target), {
    method: request.method,
    // Its own Host, since the endpoint refuses those of others.
    headers: [...endToEnd(request.rawHeaders), "Host", new URL(target).host],
    // A new connection each: an idle one that ClickHouse closes would be a fault nobody injected.
    agent: false,
  });
}

async function forward(exchange: Exchange): Promise<void> {
  const { response } = exchange;
  const incoming = await send(exchange);
  response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, endToEnd(incoming.rawHeaders));
  await pipeline(incoming, response);
}

function endToEnd(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter((_, i) => !HOP_HEADERS.has(rawHeaders[i - (i % 2)]?.toLowerCase() ?? ""));
}

async function answer(exchange: Exchange, status: number, body: string, headers: Record<string, string> = {}) {
  const { request, response, hit } = exchange;
  // Read to its end, so that the caller's connection can carry the next request.
  for await (const _ of request);
  hit();
  response.writeHead(status, { "Content-Type": "text/plain; charset=UTF-8", ...headers });
  response.end(body);
}

async function hang(exchange: Exchange): Promise<void> {
  const { response, lifted, hit } = exchange;
  hit();
  const closed = once(response, "close", { signal: lifted });
  const callerLeft = await closed.then(
    () => true,
    () => false,
  );
  if (!callerLeft) await forward(exchange);
}

async function closeAfterInsert(exchange: Exchange): Promise<void> {
  const incoming = await send(exchange);
  for await (const _ of incoming);
  if (incoming.statusCode === 200) exchange.hit();
  exchange.request.socket.resetAndDestroy();
}

async function closeMidInsert({ request, target, hit }: Exchange): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const outgoing = openRequest(request, target);
  // Broken on purpose; whatever ClickHouse says to half a body, nobody hears it.
  outgoing.on("error", () => undefined);
  await new Promise<void>((resolve, reject) => {
    outgoing.once("error", reject);
    outgoing.write(body.subarray(0, Math.ceil(body.length / 2)), () => resolve());
  });
  outgoing.destroy();
  hit();
  request.socket.resetAndDestroy();
}

function tooManyParts(exchange: Exchange): Promise<void> {
  const table = /^\s*insert\s+into\s+(?:table\s+)?([\w.`"]+)/i.exec(exchange.statement)?.[1]?.replace(/[`"]/g, "");
  const text = `Code: 252. DB::Exception: Too many parts (3000 with average size of 1.21 KiB) in table '${table}'. Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)`;
  return answer(exchange, 500, `${text}\n`, { "X-ClickHouse-Exception-Code": "252" });
}
