// One batch of events → the gateway, until every event of it is durable or refused for good: the delivery of
// @millrace/client, with an import's words.
import { Code } from "@connectrpc/connect";
import type { Event } from "#gen/millrace/events/v1/events_pb.ts";
import { createPublishCall } from "../../sdk/node/src/call.ts";
import { createDelivery, RefusedError } from "../../sdk/node/src/delivery.ts";
import { encodeFrames } from "../../sdk/node/src/frames.ts";
import { createTransport } from "../../sdk/node/src/transport.ts";

export interface Refusal {
  /** Position in the events that were handed over. */
  index: number;
  reason: string;
}

export interface Publisher {
  /**
   * Resolves with the events that will never be taken; all others are durable then. Transient failures are retried
   * until `signal` fires. `checkStored`: an earlier run may have sent some of these. Rejects with PublishError, or with
   * the signal's reason.
   */
  publish(events: readonly Event[], checkStored: boolean, signal: AbortSignal): Promise<Refusal[]>;
}

/** The gateway will not take anything from this import; the message says what to do. */
export class PublishError extends Error {
  override readonly name = "PublishError";
}

export interface PublisherOptions {
  /** Address of the gateway. */
  url: string;
  apiKey: string | undefined;
  /** Called before each wait for another try. */
  onRetry(reason: string, delayMs: number): void;
}

const REQUEST_TIMEOUT_MS = 60_000;
const BACKOFF_MS = { base: 200, max: 15_000 };

export function createPublisher({ url, apiKey, onRetry }: PublisherOptions): Publisher {
  const { transport } = createTransport({ url, apiKey });
  const deliver = createDelivery({
    call: createPublishCall(transport, REQUEST_TIMEOUT_MS),
    backoffMs: BACKOFF_MS,
    onRetry: (error, delayMs) => onRetry(`${url}: ${error.message}`, delayMs),
  });
  return {
    async publish(events, checkStored, signal) {
      const refused: Refusal[] = [];
      try {
        await deliver(encodeFrames(events), {
          signal,
          checkStored,
          holdsRefused: false,
          keepsAlive: true,
          onVerdict(index, rejection) {
            if (!rejection) return;
            const { field, message } = rejection;
            refused.push({ index, reason: field === "" ? message : `${field}: ${message}` });
          },
        });
      } catch (error) {
        throw error instanceof RefusedError ? finalError(url, error) : error;
      }
      return refused.sort((a, b) => a.index - b.index);
    },
  };
}

function finalError(url: string, { code, message, cause }: RefusedError): PublishError {
  const remedies: Partial<Record<Code, string>> = {
    [Code.Unauthenticated]: "give its key with --api-key or MILLRACE_API_KEY",
    [Code.PermissionDenied]: "this key may not publish; give another one with --api-key or MILLRACE_API_KEY",
    [Code.Unimplemented]: "no Millrace gateway answers there; name it with --url",
    [Code.NotFound]: "no Millrace gateway answers there; name it with --url",
  };
  const remedy = remedies[code];
  const text = `${url} refuses the import: ${message}${remedy === undefined ? "" : ` (${remedy})`}`;
  return new PublishError(text, { cause });
}
