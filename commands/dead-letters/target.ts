// Where replays are appended: Kafka itself, or the gateway in front of a log that only its owner can write.

import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { type AppendRecord, LogUnavailableError, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { decodeReplayAnswer, encodeReplayRequest, REPLAY_PATH } from "#lib/events/replay-request.ts";
import type { ReplayTarget } from "#lib/letters/replay.ts";
import { createLogger } from "#lib/process/log.ts";
import type { ReplayConfig } from "./config.ts";

/** The gateway will not take replays from this caller; the message says what to do. */
export class ReplayRefusedError extends Error {
  override readonly name = "ReplayRefusedError";
}

const REQUEST_TIMEOUT_MS = 60_000;

type TargetConfig = Pick<ReplayConfig, "kafkaBrokers" | "millraceUrl" | "millraceApiKey">;

/** Rejects with ReplayRefusedError beside what logs reject with. */
export function createTarget(config: ReplayConfig): ReplayTarget & AsyncDisposable {
  if (config.kafkaBrokers.length === 0) {
    trustAuthorities(config.tlsCa);
    return createGatewayTarget(config);
  }
  const logger = createLogger({ level: "error", service: "dead-letters", stream: process.stderr });
  const log = createKafkaLog(kafkaOptions(config, "millrace-dead-letters", logger));
  return {
    append: (records, topic) => log.append(topic, records),
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  };
}

function createGatewayTarget({ millraceUrl, millraceApiKey }: TargetConfig): ReplayTarget & AsyncDisposable {
  const headers = {
    "content-type": "application/json",
    ...(millraceApiKey === undefined ? {} : { authorization: `Bearer ${millraceApiKey}` }),
  };

  async function append(records: readonly AppendRecord[], topic: string) {
    const { status, text } = await post(encodeReplayRequest(records, topic));
    const answer = parse(text);
    const positions = decodeReplayAnswer(answer, records.length);
    if (status === 200 && positions) return positions;
    const reason = `${millraceUrl} answered ${status}: ${errorIn(answer) ?? text.slice(0, 200)}`;
    if (status === 413) throw new RecordTooLargeError(reason);
    if (status === 503) throw new LogUnavailableError(reason);
    throw new ReplayRefusedError(`${reason}${REMEDIES.get(status) ?? ""}`);
  }

  async function post(body: string): Promise<{ status: number; text: string }> {
    try {
      const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
      const response = await fetch(`${millraceUrl}${REPLAY_PATH}`, { method: "POST", headers, body, signal });
      return { status: response.status, text: await response.text() };
    } catch (error) {
      // Refused, reset, or no answer in time: the records may be on the log, and sending them again doubles nothing.
      const { cause = error } = error as Error;
      const reason = cause instanceof Error ? cause.message : String(cause);
      const remedy = "start it, or name it with MILLRACE_URL, or set KAFKA_BROKERS for a log on Kafka";
      throw new LogUnavailableError(`no answer from the gateway at ${millraceUrl} (${reason}): ${remedy}`, {
        cause: error,
      });
    }
  }

  return { append, [Symbol.asyncDispose]: async () => {} };
}

const REMEDIES = new Map([
  [401, " (give one of its SECRET_API_KEYS with MILLRACE_API_KEY)"],
  [403, " (give one of its SECRET_API_KEYS with MILLRACE_API_KEY)"],
  [404, " (no Millrace gateway of this version answers there; name it with MILLRACE_URL)"],
]);

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Something else answers there; what it says is quoted as text.
    return undefined;
  }
}

function errorIn(answer: unknown): string | undefined {
  const { error } = (answer ?? {}) as { error?: unknown };
  return typeof error === "string" ? error : undefined;
}
