// POST /admin/refused: what this gateway has refused lately, for the stats service, which is asked where an event is.
import { parseUuid } from "#lib/events/ids.ts";
import type { RefusedAnswer, RefusedEvents } from "#lib/ledger/refused-events.ts";
import type { Edge } from "../edge.ts";
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";

const IDS_MAX = 1_000;

export function createRefusedWire(edge: Edge, events: Pick<RefusedEvents, "find" | "sums" | "sinceMs">): Wire {
  return {
    async answer(request) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.refused);
      const ids = readIds(await entry.readBody());
      return {
        since_ms: events.sinceMs,
        sums: events.sums().map(({ reason, lastHour, newestMs }) => ({
          ...{ reason, last_hour: lastHour, newest_ms: newestMs },
        })),
        refused: events.find(ids).map(({ timeMs, ...rest }) => ({ ...rest, time_ms: timeMs })),
      } satisfies RefusedAnswer;
    },
    refusalBody: ({ message }) => ({ error: message }),
  };
}

function readIds(body: Uint8Array): string[] {
  const fault = `must be {"ids":["<uuid>"]}, with at most ${IDS_MAX} of them`;
  let given: unknown;
  try {
    given = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString());
  } catch {
    throw refused("invalid", { field: "body", fault });
  }
  const { ids } = (typeof given === "object" && given !== null ? given : {}) as { ids?: unknown };
  if (!Array.isArray(ids) || ids.length > IDS_MAX || !ids.every(isUuid)) {
    throw refused("invalid", { field: "body", fault });
  }
  return ids.map((id: string) => id.toLowerCase());
}

function isUuid(id: unknown): id is string {
  return typeof id === "string" && parseUuid(id) !== undefined;
}
