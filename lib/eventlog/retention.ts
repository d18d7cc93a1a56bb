// How long a log keeps a record, for those who have to say when it will be gone.
import type { KafkaConnection } from "./kafka/client.ts";
import { createKafkaInspection } from "./kafka/inspection.ts";
import { LogUnavailableError } from "./log.ts";

export interface LogRetention {
  /** Milliseconds after its append at which a record is gone at the latest; undefined: that cannot be said. */
  keptMs: number | undefined;
  /** With `keptMs` what sets it, otherwise when or why not the record goes, such as "until ...". */
  why: string;
}

const ASK_MS_MAX = 10_000;

/** What the topic's settings say now. Says so when they cannot be read, which not every user may. */
export async function readKafkaRetention(connection: KafkaConnection, topic: string): Promise<LogRetention> {
  const inspection = createKafkaInspection(connection, ASK_MS_MAX);
  try {
    const [state] = await inspection.topics([topic]);
    return kafkaRetention(state?.settings ?? new Map());
  } catch (error) {
    if (!(error instanceof LogUnavailableError)) throw error;
    return unknown(`until the topic's retention removes them, which could not be read: ${error.message}`);
  } finally {
    inspection.close();
  }
}

/**
 * Kafka removes whole segments, retention.ms after the newest record in them. A record shares its segment with those of
 * segment.ms after it, so it can stay for both together.
 */
export function kafkaRetention(settings: ReadonlyMap<string, string>): LogRetention {
  const numberOf = (name: string) => Number(settings.get(name) ?? Number.NaN);
  if (!(settings.get("cleanup.policy") ?? "delete").includes("delete")) {
    return unknown("for good, since the topic's cleanup.policy is not delete");
  }
  const [retentionMs, segmentMs] = [numberOf("retention.ms"), numberOf("segment.ms")];
  if (!(retentionMs >= 0)) {
    const bySize = numberOf("retention.bytes") >= 0;
    return unknown(
      bySize
        ? "until the topic's retention.bytes removes them, since its retention.ms sets no time"
        : "for good, since the topic has neither retention.ms nor retention.bytes",
    );
  }
  if (!(segmentMs > 0)) return unknown("until the topic's retention.ms after their segments were full (segment.bytes)");
  return {
    keptMs: retentionMs + segmentMs,
    why: `the topic's retention.ms of ${retentionMs} and segment.ms of ${segmentMs}`,
  };
}

function unknown(why: string): LogRetention {
  return { keptMs: undefined, why };
}
