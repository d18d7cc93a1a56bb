// One attempt to tell a receiver, bounded in time, in bytes and in where it may go.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from "node:https";
import { isIP } from "node:net";
import { shortened } from "#lib/process/printable.ts";
import { packageVersion } from "#lib/process/version.ts";
import { checkedAddress, guardedLookup, isProxied, type Resolve, refuseAddress } from "./webhook-address.ts";
import { webhookSignature } from "./webhook-payload.ts";

export interface WebhookConfig {
  /** Milliseconds for one attempt: lookup, connection, request and answer. */
  webhookTimeout: number;
  /** Undefined: requests are not signed. */
  webhookSecret: string | undefined;
  webhookAllowPrivate: boolean;
}

export interface WebhookNetwork {
  /** With HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Absent: receivers are reached directly. */
  proxyEnv?: NodeJS.ProcessEnv;
  /** Default: the system's. */
  resolve?: Resolve;
}

/** As Node's own requests decide. */
const OWN_NETWORK: WebhookNetwork = process.env.NODE_USE_ENV_PROXY === "1" ? { proxyEnv: process.env } : {};

/** The receiver was not reached, was not allowed, or did not answer 2xx. The message is fit for the alert's history. */
export class WebhookError extends Error {
  override readonly name = "WebhookError";
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined;

  constructor(message: string, status?: number, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

export interface WebhookCall {
  /** URL. */
  post: string;
  /** JSON. */
  body: string;
  transitionId: string;
  signal: AbortSignal;
}

/** Resolves with a 2xx status; rejects with WebhookError, or with the reason of a fired signal. */
export type SendWebhook = (call: WebhookCall) => Promise<{ status: number }>;

/** What is read of an answer before its connection is closed. */
const ANSWER_BYTES_MAX = 65_536;
const LOCATION_CHARS_MAX = 200;

export function createWebhook(
  config: WebhookConfig,
  nowMs: () => number,
  { proxyEnv, resolve }: WebhookNetwork = OWN_NETWORK,
): SendWebhook {
  const isGuarded = !config.webhookAllowPrivate;

  return async ({ post: address, body, transitionId, signal }) => {
    signal.throwIfAborted();
    const timeout = AbortSignal.timeout(config.webhookTimeout);
    const headers: Record<string, string> = {
      "content-type": "application/json",
      "user-agent": `millrace/${packageVersion()}`,
      "x-millrace-transition": transitionId,
    };
    if (config.webhookSecret) headers["x-millrace-signature"] = webhookSignature(config.webhookSecret, body, nowMs());
    try {
      return await post(address, body, {
        method: "POST",
        headers: { ...headers, "content-length": Buffer.byteLength(body) },
        signal: AbortSignal.any([signal, timeout]),
      });
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof WebhookError) throw error;
      if (timeout.aborted) throw new WebhookError(`no answer within ${config.webhookTimeout} ms`);
      throw new WebhookError(reasonOf(error), undefined, { cause: error });
    }
  };

  async function post(address: string, body: string, options: RequestOptions): Promise<{ status: number }> {
    const url = URL.parse(address);
    if (!url || !/^https?:$/.test(url.protocol)) throw new WebhookError("the URL is not an http or https address");
    if (isGuarded) refuseAddress(url.hostname);
    const response = await (proxyEnv !== undefined && isProxied(proxyEnv, url)
      ? respondThrough(proxyEnv, url, body, options)
      : respond(url, body, { ...options, agent: false, ...(isGuarded && { lookup: guardedLookup(resolve) }) }));
    const status = response.statusCode ?? 0;
    try {
      await drain(response);
    } catch {
      // The answer's first line has decided; that its body was cut off or too slow changes nothing.
    }
    if (status >= 200 && status < 300) return { status };
    const { location } = response.headers;
    const where = location === undefined ? "" : ` to ${shortened(location, LOCATION_CHARS_MAX)}`;
    if (status >= 300 && status < 400) throw new WebhookError(`redirects are not followed: ${status}${where}`, status);
    throw new WebhookError(`the receiver answered ${status}`, status);
  }

  /** A name that is checked here is not left to the proxy to look up again: it is asked for the address. */
  async function respondThrough(proxies: NodeJS.ProcessEnv, url: URL, body: string, options: RequestOptions) {
    const isHttps = url.protocol === "https:";
    const agentFor = (proxyEnv: NodeJS.ProcessEnv) =>
      new (isHttps ? HttpsAgent : HttpAgent)({ proxyEnv, timeout: config.webhookTimeout });
    const target = new URL(url);
    const address = isGuarded ? await checkedAddress(url.hostname, resolve) : url.hostname;
    target.hostname = isIP(address) === 6 ? `[${address}]` : address;
    if (target.hostname === url.hostname) return respond(url, body, { ...options, agent: agentFor(proxies) });
    // NO_PROXY is of names, and has been asked about this one.
    const agent = agentFor({ ...proxies, NO_PROXY: "", no_proxy: "" });
    // Without TLS a proxy passes on nothing but what it was asked for.
    if (!isHttps) return respond(target, body, { ...options, agent });
    const headers = { ...options.headers, host: url.host };
    return respond(target, body, { ...options, agent, servername: url.hostname, headers });
  }
}

/** A connection of its own each time: none is reused whose address was checked at another time, or not at all. */
function respond(url: URL, body: string, options: RequestOptions): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, options, resolve);
  request.on("error", reject);
  // While a proxy makes the way, a request that is given up says nothing of it; the agent's timeout ends that way.
  options.signal?.addEventListener("abort", () => reject(options.signal?.reason), { once: true });
  request.end(body);
  return promise;
}

async function drain(response: IncomingMessage): Promise<void> {
  let bytes = 0;
  for await (const chunk of response) {
    bytes += (chunk as Buffer).length;
    if (bytes >= ANSWER_BYTES_MAX) break; // Ends the connection.
  }
}

function reasonOf(error: unknown): string {
  const errors = error instanceof AggregateError ? error.errors : [error];
  return errors.map((one) => (one instanceof Error ? one.message : String(one))).join("; ");
}
