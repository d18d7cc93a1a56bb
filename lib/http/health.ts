// /healthz, /readyz and /metrics: for a service's own listener, or on a port of their own.
import type { Registry } from "prom-client";
import type { Logger } from "#lib/process/log.ts";
import { TimeoutError, within } from "#lib/process/waiting.ts";
import { listenHttp, SMALL_LISTENER } from "./listener.ts";

export interface HealthCheck {
  name: string;
  /** Resolves when the dependency can be used now; rejects with the reason, fit for an operator's eyes. */
  check(signal: AbortSignal): Promise<void>;
}

/** What HTTP/1.1 and HTTP/2 requests of Node have in common. */
export interface HealthRequest {
  method?: string | undefined;
  url?: string | undefined;
}

export interface HealthResponse {
  statusCode: number;
  setHeader(name: string, value: string | number): unknown;
  end(body: string): unknown;
}

export interface Health {
  /** Answers and returns true if the request is one for this module; leaves any other untouched. */
  handle(request: HealthRequest, response: HealthResponse): boolean;
  /** What /readyz would say now. */
  isReady(): Promise<boolean>;
  /** From now on not ready, so that load balancers send nothing new; still alive. */
  setDraining(): void;
}

export interface HealthOptions {
  checks: readonly HealthCheck[];
  registry: Registry;
  /** A check that takes longer counts as failed. */
  checkTimeoutMs?: number;
}

interface Readiness {
  status: "ready" | "not ready" | "draining";
  checks: Record<string, string>;
}

interface Answer {
  status: number;
  type: string;
  body: string;
}

/** Answers are shared for this long, so that hammering /readyz does not hammer what it checks. */
const READINESS_CACHE_MS = 500;

export function createHealth({ checks, registry, checkTimeoutMs = 2_000 }: HealthOptions): Health {
  let draining = false;
  let cached: { at: number; readiness: Promise<Readiness> } | undefined;

  function readiness(): Promise<Readiness> {
    if (draining) return Promise.resolve({ status: "draining", checks: {} });
    const now = performance.now();
    if (!cached || now - cached.at > READINESS_CACHE_MS) {
      const round = { at: now, readiness: runChecks(checks, checkTimeoutMs) };
      cached = round;
      // A slow round is fresh when it ends, not when it began.
      const renew = () => {
        round.at = performance.now();
      };
      round.readiness.then(renew, renew);
    }
    return cached.readiness;
  }

  const routes = new Map<string, () => Promise<Answer>>([
    ["/healthz", async () => json(200, { status: "ok" })],
    [
      "/readyz",
      async () => {
        const state = await readiness();
        return json(state.status === "ready" ? 200 : 503, state);
      },
    ],
    ["/metrics", async () => ({ status: 200, type: registry.contentType, body: await registry.metrics() })],
  ]);

  return {
    handle(request, response) {
      const route = routes.get(request.url?.split("?", 1)[0] ?? "");
      if (!route) return false;
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.setHeader("Allow", "GET, HEAD");
        send(response, json(405, { status: "method not allowed, use GET" }), false);
        return true;
      }
      const failed = (error: unknown) => json(500, { status: "error", reason: messageOf(error) });
      void route()
        .catch(failed)
        .then((answer) => send(response, answer, request.method === "HEAD"));
      return true;
    },
    async isReady() {
      return (await readiness()).status === "ready";
    },
    setDraining() {
      draining = true;
    },
  };
}

function json(status: number, value: unknown): Answer {
  return { status, type: "application/json", body: JSON.stringify(value) };
}

function send(response: HealthResponse, { status, type, body }: Answer, headOnly: boolean): void {
  response.statusCode = status;
  response.setHeader("Content-Type", type);
  response.setHeader("Content-Length", Buffer.byteLength(body));
  response.setHeader("Cache-Control", "no-store");
  response.end(headOnly ? "" : body);
}

async function runChecks(checks: readonly HealthCheck[], timeoutMs: number): Promise<Readiness> {
  const results = await Promise.all(checks.map((check) => runCheck(check, timeoutMs)));
  const status = results.every((result) => result === "ok") ? "ready" : "not ready";
  return { status, checks: Object.fromEntries(checks.map(({ name }, i) => [name, results[i] ?? ""])) };
}

/** "ok", or the reason why not. Does not wait for a check that ignores its signal. */
async function runCheck({ check }: HealthCheck, timeoutMs: number): Promise<string> {
  try {
    await within(timeoutMs, check, () => new TimeoutError(`no answer within ${timeoutMs} ms`));
    return "ok";
  } catch (error) {
    return messageOf(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error && error.message !== "" ? error.message : String(error);
}

export interface HealthServerOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** Environment name of the port's setting, for the remedy when the port is taken. */
  setting: string;
  health: Health;
  logger: Logger;
}

export interface HealthServer extends AsyncDisposable {
  readonly port: number;
}

/** For services that have no HTTP port otherwise. Rejects with a sentence that says what to do when the port is taken. */
export async function serveHealth({ health, ...target }: HealthServerOptions): Promise<HealthServer> {
  const listener = await listenHttp({
    ...target,
    ...SMALL_LISTENER,
    handle(request, response) {
      if (health.handle(request, response)) return;
      const there = json(404, { status: "not found; there is /healthz, /readyz and /metrics" });
      send(response, there, request.method === "HEAD");
    },
  });
  target.logger.info({ host: target.host, port: listener.port }, "health and metrics are served");
  return { port: listener.port, [Symbol.asyncDispose]: () => listener.close(0) };
}
