// Calls of the relay service's HTTP routes.
import { z } from "zod";
import type { Target } from "./config.ts";

/** The service cannot be reached, or said no; the message says which, and what to do. */
export class RelaysError extends Error {
  override readonly name = "RelaysError";
}

const listSchema = z.object({
  relays: z.array(
    z.object({
      id: z.string(),
      address: z.string(),
      connected_at: z.string(),
      last_seen: z.string(),
      collectors: z.array(z.object({ name: z.string(), tags: z.array(z.string()) })),
    }),
  ),
});
const toldSchema = z.object({ connections: z.number() });
const errorSchema = z.object({ error: z.string() });

export type ConnectedRelay = z.output<typeof listSchema>["relays"][number];

export interface RelaysClient {
  list(): Promise<ConnectedRelay[]>;
  /** The number of connections that were told. */
  flush(id: string): Promise<number>;
  override(id: string, body: unknown): Promise<number>;
}

const ANSWER_MS_MAX = 10_000;

/** Its calls reject with RelaysError. */
export function createRelaysClient({ relayHttpUrl, relayToken }: Target): RelaysClient {
  async function call<T>(schema: z.ZodType<T>, path: string, body?: unknown): Promise<T> {
    const { status, text } = await send(path, body);
    const answer = parseJson(text);
    if (status === 401) throw new RelaysError("wrong or missing token: set RELAY_TOKEN (millrace pulse: its --token)");
    if (status >= 300) {
      const told = errorSchema.safeParse(answer);
      if (told.success) throw new RelaysError(told.data.error);
    }
    const result = schema.safeParse(answer);
    if (status < 300 && result.success) return result.data;
    throw new RelaysError(
      `${relayHttpUrl} answered ${status} and is not a relay: set RELAY_HTTP_URL to STATS_PORT of millrace start, or to RELAY_HTTP_PORT of millrace relay`,
    );
  }

  async function send(path: string, body: unknown) {
    try {
      const response = await fetch(relayHttpUrl + path, {
        method: path === "/relays" ? "GET" : "POST",
        headers: relayToken === undefined ? {} : { authorization: `Bearer ${relayToken}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      return { status: response.status, text: await response.text() };
    } catch (cause) {
      const { cause: reason = cause } = cause as Error;
      const why = reason instanceof Error ? reason.message || reason.name : String(reason);
      throw new RelaysError(
        `cannot reach ${relayHttpUrl} (${why}): start millrace start or millrace relay, or set RELAY_HTTP_URL`,
        { cause },
      );
    }
  }

  const pathOf = (id: string, action: string) => `/relays/${encodeURIComponent(id)}/${action}`;
  return {
    list: async () => (await call(listSchema, "/relays")).relays,
    flush: async (id) => (await call(toldSchema, pathOf(id, "flush"))).connections,
    override: async (id, body) => (await call(toldSchema, pathOf(id, "override"), body)).connections,
  };
}

/** Undefined for what is no JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A proxy's page, or an empty body: the status tells more.
    return undefined;
  }
}
