// Publishing for wires whose answer is one word about the whole request: what the log did not take is asked for again, all
// of it, and the ids make one event of what it did take.
import { type Ingest, type IngestRequest, IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import { refused } from "../refusals.ts";

/** Resolves when every event that is not at fault is durable. `ids` is what callers call them. Throws Refused. */
export async function publishAll(ingest: Ingest, request: IngestRequest, ids = "uuids"): Promise<Verdict> {
  let verdict: Verdict;
  try {
    verdict = await ingest.publish(request);
  } catch (error) {
    throw error instanceof IngestUnavailableError ? refused("log_away", { ids }, error) : error;
  }
  if (verdict.rejected.some(({ retryable }) => retryable)) throw refused("log_away", { ids });
  return verdict;
}

/** As callers see them: `indexes` says where in their request each event stood. */
export function namedByPlace(rejected: readonly Rejection[], indexes: readonly number[]) {
  return rejected.map(({ index, code, field, message }) => ({ index: indexes[index] ?? index, code, field, message }));
}
