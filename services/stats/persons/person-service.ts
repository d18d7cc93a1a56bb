// PersonService: whom a caller names, what is told meanwhile, and what callers hear of failures.
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { type DeleteRequest, type DeleteResponse, PersonService } from "#gen/millrace/identity/v1/persons_pb.ts";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import type { LogRetention } from "#lib/eventlog/retention.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import { ConsumerBehindError } from "#lib/identity/erasure/consumed.ts";
import { findPerson, isUnknown } from "#lib/identity/erasure/delete-person.ts";
import { NoEpochError } from "#lib/identity/erasure/erase.ts";
import { DeletionFailedError } from "#lib/identity/erasure/mutation.ts";
import { PersonTooLargeError } from "#lib/identity/erasure/person.ts";
import { TurnLostError } from "#lib/identity/erasure/turn.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { NO_PERSON } from "../refusals.ts";
import { type Deletion, type Deletions, TooManyDeletionsError } from "./deletions.ts";
import { certificateMessage, previewMessage, progressMessage } from "./messages.ts";

export interface PersonServiceOptions {
  warehouse: Warehouse;
  deletions: Deletions;
  /** How long the log keeps records. */
  retention(): Promise<LogRetention>;
}

/** How often progress is repeated while there is none, so that nothing between caller and service takes the call for dead. */
const AGAIN_MS = 10_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** The person id of events without a distinct id. */
const NOBODY = personIdOf("");

export function registerPersonService(router: ConnectRouter, options: PersonServiceOptions): void {
  const { warehouse, deletions, retention } = options;

  async function* answers(request: DeleteRequest, signal: AbortSignal): AsyncGenerator<DeleteResponse> {
    const ownId = readPerson(request);
    const found = await findPerson(warehouse, ownId);
    if (isUnknown(found)) {
      const message = "nothing is stored of this person; what was sent a moment ago may not be stored yet";
      throw new ConnectError(message, Code.NotFound);
    }
    if (request.dryRun) {
      yield previewMessage(found);
      return;
    }
    signal.throwIfAborted();
    const deletion = deletions.begin(ownId, signal);
    while (!deletion.isOver) {
      const { changed } = deletion;
      yield progressMessage(deletion.progress);
      await unlessQuiet(changed, signal);
    }
    yield certificateMessage(await deletion.result, await retention());
  }

  router.service(PersonService, {
    async *delete(request, { signal }) {
      try {
        yield* answers(request, signal);
      } catch (error) {
        throw toRpcError(error, signal);
      }
    },
  });
}

/** Resolves with the change, or when there has been none for long. Rejects with the signal's reason. */
async function unlessQuiet(changed: Deletion["changed"], signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([changed, sleepUnless(AbortSignal.any([signal, over.signal]), AGAIN_MS)]);
  } finally {
    over.abort();
  }
  signal.throwIfAborted();
}

/** Own person id of whom the request names. */
function readPerson({ person }: DeleteRequest): string {
  if (person.case === "distinctId") {
    if (person.value === "") throw invalid("distinct_id: is empty; events without a distinct id belong to no person");
    return personIdOf(person.value.toWellFormed());
  }
  if (person.case === undefined) throw invalid(NO_PERSON);
  if (!UUID.test(person.value)) throw invalid("person_id: is not a UUID; a distinct id goes into distinct_id");
  if (person.value === NOBODY) throw invalid("person_id: is the nil UUID, which is not a person");
  return person.value.toLowerCase();
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

/** What a call that failed is answered; a bug comes back as it is. */
function toRpcError(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return ConnectError.from(signal.reason, Code.Unavailable);
  if (!(error instanceof Error)) return error;
  const told = (code: Code, message = error.message) => {
    const isPassing = code === Code.Unavailable || code === Code.ResourceExhausted;
    const metadata = isPassing ? { "retry-after": String(RETRY_AFTER_SECONDS.deletion) } : {};
    return new ConnectError(message, code, metadata, undefined, error);
  };
  if (error instanceof TooManyDeletionsError) return told(Code.ResourceExhausted);
  if ([ConsumerBehindError, TurnLostError, LogUnavailableError].some((kind) => error instanceof kind)) {
    return told(Code.Unavailable);
  }
  if ([PersonTooLargeError, NoEpochError, DeletionFailedError].some((kind) => error instanceof kind)) {
    return told(Code.FailedPrecondition);
  }
  if (error instanceof WarehouseError) {
    return error.kind === "transient"
      ? told(Code.Unavailable, "ClickHouse cannot be used now; call again, and it continues from here")
      : told(Code.FailedPrecondition, `${error.message} (millrace migrate makes missing tables)`);
  }
  return error;
}
