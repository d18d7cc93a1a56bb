// What gateways have refused lately, as they say themselves: the one in this process, or each of REFUSALS_FROM.
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { RefusedEventSchema } from "#gen/millrace/stats/v1/receipts_pb.ts";
import {
  REFUSED_PATH,
  type RefusalSum,
  type RefusedEvent,
  type RefusedEvents,
  refusedAnswer,
} from "#lib/ledger/refused-events.ts";

export interface RefusalReport {
  /** Newest first. */
  refused: RefusedEvent[];
  sums: RefusalSum[];
  /** Sentences: which gateways could not be asked. */
  gaps: string[];
}

export interface RefusalSource {
  /** Those of these ids, and sums of all. Never rejects. */
  ask(ids: readonly string[], signal?: AbortSignal): Promise<RefusalReport>;
}

const ANSWER_MS_MAX = 2_000;

export function localRefusals(events: RefusedEvents): RefusalSource {
  return { ask: async (ids) => ({ refused: events.find(ids), sums: events.sums(), gaps: [] }) };
}

type Resolve = (name: string) => Promise<{ address: string; family: number }[]>;
const ofSystem: Resolve = (name) => lookup(name, { all: true });

/** Each address of each name is a gateway of its own; of one that has addresses of both families, those of one are asked. */
export function gatewayRefusals(
  urls: readonly string[],
  key: string | undefined,
  resolve: Resolve = ofSystem,
): RefusalSource {
  if (urls.length === 0) {
    const gap = "gateways were not asked what they refused: set REFUSALS_FROM of the stats service";
    return { ask: async () => ({ refused: [], sums: [], gaps: [gap] }) };
  }
  return {
    async ask(ids, signal) {
      const addresses = (await Promise.all(urls.map((url) => addressesOf(url, resolve)))).flat();
      const reports = await Promise.all(addresses.map((address) => askOne(address, key, ids, signal)));
      return {
        refused: reports.flatMap(({ refused }) => refused).sort((a, b) => b.timeMs - a.timeMs),
        sums: joined(reports.flatMap(({ sums }) => sums)),
        gaps: reports.flatMap(({ gaps }) => gaps),
      };
    },
  };
}

/** A certificate names no addresses, so an https gateway is asked by its name. */
async function addressesOf(url: string, resolve: Resolve): Promise<string[]> {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== "http:" || isIP(hostname.replace(/[[\]]/g, "")) > 0) return [url];
  const all = await resolve(hostname).catch(() => []);
  const found = all.filter(({ family }) => family === all[0]?.family);
  if (found.length < 2) return [url];
  return found.map(({ address, family }) => `http://${family === 6 ? `[${address}]` : address}:${port || "80"}`);
}

async function askOne(
  url: string,
  key: string | undefined,
  ids: readonly string[],
  signal: AbortSignal | undefined,
): Promise<RefusalReport> {
  const gap = (why: string) => ({
    refused: [],
    sums: [],
    gaps: [`gateway ${url} was not asked what it refused: ${why}`],
  });
  try {
    const timeout = AbortSignal.timeout(ANSWER_MS_MAX);
    const response = await fetch(new URL(REFUSED_PATH, url), {
      method: "POST",
      headers: { "content-type": "application/json", ...(key === undefined ? {} : { "x-api-key": key }) },
      body: JSON.stringify({ ids }),
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    if (response.status === 401 || response.status === 403)
      return gap("it does not know our key; set SECRET_API_KEYS as it has them");
    const answer = refusedAnswer.safeParse(await response.json());
    if (response.status !== 200 || !answer.success) return gap(`it answered ${response.status}`);
    return {
      refused: answer.data.refused.map(({ time_ms: timeMs, ...rest }) => ({ ...rest, timeMs })),
      sums: answer.data.sums.map(({ reason, last_hour: lastHour, newest_ms: newestMs }) => ({
        reason,
        lastHour,
        newestMs,
      })),
      gaps: [],
    };
  } catch (error) {
    return gap(error instanceof Error && error.name === "TimeoutError" ? "it does not answer" : "it cannot be reached");
  }
}

function joined(sums: readonly RefusalSum[]): RefusalSum[] {
  return [...Map.groupBy(sums, ({ reason }) => reason)].map(([reason, each]) => ({
    reason,
    lastHour: each.reduce((sum, { lastHour }) => sum + lastHour, 0),
    newestMs: Math.max(...each.map(({ newestMs }) => newestMs)),
  }));
}

export function toRefusedEvent({ reason, field, event, timeMs, retryable }: RefusedEvent) {
  return create(RefusedEventSchema, { reason, field, event, retryable, time: timestampFromMs(timeMs) });
}
