// Publishing for wires whose answer is one word about the whole request: what the log did not take is asked for again, all
// of it, and the ids make one event of what it did take.
import type { HttpRequest } from "#lib/http/message.ts";
import { type Ingest, type IngestRequest, IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import { refused } from "../refusals.ts";

/** Resolves when every valid event is durable. `ids` is what callers call them. Throws Refused. */
export function publishAll(ingest: Ingest, request: IngestRequest, ids = "uuids"): Promise<Verdict> {
  return whole(ingest.publish(request), ids);
}

/** Without the request, which is not needed any more. */
async function whole(published: Promise<Verdict>, ids: string): Promise<Verdict> {
  let verdict: Verdict;
  try {
    verdict = await published;
  } catch (error) {
    throw error instanceof IngestUnavailableError ? refused("log_away", { ids }, error) : error;
  }
  if (verdict.rejected.some(({ retryable }) => retryable)) throw refused("log_away", { ids });
  return verdict;
}

/** Asked for by a header, so that no caller's answer changes without it. */
export function wantsPositions({ headers }: Pick<HttpRequest, "headers">): boolean {
  return headers["x-millrace-positions"] === "true";
}

/** As callers see them: `indexes` says where in their request each event stood, if not all of them were published. */
export function namedByPlace(rejected: readonly Rejection[], indexes: readonly number[] = []) {
  return rejected.map(({ index, code, field, message }) => ({ index: indexes[index] ?? index, code, field, message }));
}

/** The same for positions; "" for events that were dropped before. */
export function positionsByPlace(positions: readonly string[], indexes: readonly number[], count: number): string[] {
  const placed = Array.from({ length: count }, () => "");
  for (const [at, place] of indexes.entries()) placed[place] = positions[at] ?? "";
  return placed;
}
