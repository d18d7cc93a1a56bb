// The relay's own HTTP routes: who is connected, and two commands to them.

import { z } from "zod";
import { duration } from "#lib/config/settings.ts";
import { send } from "#lib/http/answers.ts";
import { BodyStalledError, BodyTooLargeError, readBody } from "#lib/http/body.ts";
import { createTokenCheck, credentialsOf } from "#lib/http/credential.ts";
import { bareName, isLoopback } from "#lib/http/loopback.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import { formatOverride, OVERRIDE_INTERVAL_SECONDS_MAX, OVERRIDE_SECONDS_MAX } from "#lib/relay-protocol/override.ts";
import type { RelayConnection } from "./connection.ts";

export interface RoutesOptions {
  connections: ReadonlySet<RelayConnection>;
  /** Undefined: open. */
  token: string | undefined;
  /** Where it is served: on loopback, without a token, web pages are kept out. */
  host: string;
  logger: Logger;
}

/** Answers and returns true if the request is one for the relay's routes; leaves any other untouched. */
export type RelayRoutes = (request: HttpRequest, response: HttpResponse) => boolean;

class RouteError extends Error {
  override readonly name = "RouteError";
  readonly status: number;
  readonly headers: Record<string, string>;

  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

const BODY_BYTES_MAX = 64 * 1024;

const overrideSchema = z.strictObject({
  duration: wholeSeconds(OVERRIDE_SECONDS_MAX),
  intervals: z
    .record(z.string(), wholeSeconds(OVERRIDE_INTERVAL_SECONDS_MAX))
    .refine((intervals) => Object.keys(intervals).length > 0, "expected at least one collector")
    .refine(
      (intervals) => Object.keys(intervals).every((name) => /^[^,\n]+$/.test(name)),
      "expected each collector's name without a comma or a line break",
    ),
});

/** Seconds. */
function wholeSeconds(max: number) {
  return duration(undefined, { min: 1_000, max: max * 1_000 }).transform((ms, context) => {
    if (ms !== undefined && ms % 1_000 === 0) return ms / 1_000;
    context.addIssue({ code: "custom", message: "expected whole seconds, such as 60s" });
    return z.NEVER;
  });
}

export function createRoutes({ connections, token, host, logger }: RoutesOptions): RelayRoutes {
  const isToken = token === undefined ? undefined : createTokenCheck(token);

  function authorise(request: HttpRequest): void {
    const { origin, host: asked = "" } = request.headers;
    if (isToken) {
      if (credentialsOf(request).some(isToken)) return;
      throw new RouteError(401, "wrong or missing token: send RELAY_TOKEN as authorization: Bearer TOKEN", {
        "www-authenticate": "Bearer",
      });
    }
    // Any web page can send requests to this machine, under a name of its own that resolves to it, too.
    const isForeign = isLoopback(host) && !isLoopback(bareName(asked));
    if (origin !== undefined || isForeign) throw new RouteError(403, "web pages need RELAY_TOKEN to be set and sent");
  }

  function named(id: string): RelayConnection[] {
    const found = [...connections].filter((connection) => connection.id === id);
    if (found.length === 0) throw new RouteError(404, `no agent ${JSON.stringify(id)} is connected here`);
    return found;
  }

  async function override(id: string, request: HttpRequest) {
    const { duration: seconds, intervals } = readOverride(await readJson(request));
    const found = named(id);
    let told = 0;
    for (const connection of found) {
      const own = new Map(Object.entries(intervals).filter(([name]) => connection.has(name)));
      if (own.size === 0) continue;
      connection.send(formatOverride({ seconds, intervals: own }));
      told++;
    }
    if (told === 0) throw new RouteError(404, `relay ${JSON.stringify(id)} has none of these collectors`);
    return { connections: told };
  }

  async function answer(request: HttpRequest, path: string): Promise<[status: number, body: unknown]> {
    authorise(request);
    const [, id = "", action] = /^\/relays\/([^/]*)\/(flush|override)$/.exec(path) ?? [];
    const method = action ? "POST" : "GET";
    if (path !== "/relays" && !action)
      throw new RouteError(404, "there is /relays, and /relays/ID/flush and /override");
    if (request.method !== method) throw new RouteError(405, `use ${method}`, { allow: method });
    if (!action) return [200, { relays: Array.from(connections, describe) }];
    const relay = decode(id);
    if (action === "override") return [202, await override(relay, request)];
    const found = named(relay);
    for (const connection of found) connection.send("flush");
    return [202, { connections: found.length }];
  }

  return (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (path !== "/relays" && !path.startsWith("/relays/")) return false;
    void answer(request, path)
      .catch((error: unknown): [number, unknown, Record<string, string>?] => {
        if (error instanceof RouteError) return [error.status, { error: error.message }, error.headers];
        if (error instanceof BodyTooLargeError) return [413, { error: error.message }];
        if (error instanceof BodyStalledError) return [408, { error: error.message }];
        // A request that broke off: nobody hears the answer.
        if (!request.complete) return [400, { error: "the request could not be read" }];
        logger.error({ err: error }, "a request could not be answered");
        return [500, { error: "the relay service failed; its log says more" }];
      })
      .then(([status, body, headers]) => sendJson(response, status, body, headers));
    return true;
  };
}

function describe(connection: RelayConnection) {
  const { id, address, connectedAtMs, lastSeenMs } = connection;
  const [connected_at, last_seen] = [connectedAtMs, lastSeenMs].map((ms) => new Date(ms).toISOString());
  return { id, address, connected_at, last_seen, collectors: connection.collectors() };
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    // Thrown for invalid escapes only.
    throw new RouteError(400, "the relay's id has a % that begins no escape; write it as %25");
  }
}

function readOverride(body: unknown): z.output<typeof overrideSchema> {
  const result = overrideSchema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new RouteError(400, [...(issue?.path ?? []), issue?.message].join(": "));
}

async function readJson(request: HttpRequest): Promise<unknown> {
  const body = await readBody(request, { maxBytes: BODY_BYTES_MAX });
  try {
    return JSON.parse(body.toString());
  } catch {
    // Its message would quote the body.
    throw new RouteError(400, 'the body is not JSON; expected {"duration":"60s","intervals":{"cpu":"1s"}}');
  }
}

function sendJson(response: HttpResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  const type = { "content-type": "application/json; charset=utf-8", "cache-control": "no-store" };
  send(response, status, `${JSON.stringify(body)}\n`, { ...headers, ...type });
}
