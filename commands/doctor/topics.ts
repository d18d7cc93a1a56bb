// Settings of Kafka topics that durability and order rest on.
import type { TopicState } from "#lib/eventlog/kafka/inspection.ts";
import { settingFault } from "#lib/eventlog/kafka/present-topics.ts";
import type { Finding, Result } from "./probe.ts";

/** `topic` undefined: there is none. `brokers` is how many the cluster has. */
export function judgeTopic(topic: TopicState | undefined, brokers: number): Result<TopicState> {
  if (!topic) return { status: "fail", what: "does not exist", fix: "run `millrace migrate`" };
  const { partitions, settings } = topic;
  const fault = settingFault(settings);
  const finding: Finding | undefined =
    brokenPartition(topic) ?? (fault && { status: "fail", ...fault }) ?? weakness(topic, brokers);
  const replicas = partitions[0]?.replicas ?? 0;
  const what = `${partitions.length} partitions, ${replicas} replicas, kept ${keptText(settings)}`;
  return { status: "ok", what, ...finding, value: topic };
}

export function keptText(settings: ReadonlyMap<string, string>): string {
  const [ms, bytes] = [Number(settings.get("retention.ms") ?? -1), Number(settings.get("retention.bytes") ?? -1)];
  const time = ms < 0 ? "forever" : `for ${(ms / 3_600_000).toFixed(1)} h`;
  return bytes < 0 ? time : `${time}, at most ${bytes} bytes a partition`;
}

function brokenPartition({ partitions, settings }: TopicState): Finding | undefined {
  const orphan = partitions.find(({ leader }) => leader < 0);
  if (orphan) {
    const what = `partition ${orphan.partition} has no leader: it takes and gives nothing`;
    return { status: "fail", what, fix: "start the brokers that have its replicas" };
  }
  const wanted = Number(settings.get("min.insync.replicas") ?? 1);
  const lacking = partitions.find(({ inSync }) => inSync < wanted);
  if (lacking) {
    const what = `partition ${lacking.partition} has ${lacking.inSync} replicas in sync and min.insync.replicas is ${wanted}`;
    return { status: "fail", what: `${what}: events are refused`, fix: "start the brokers that are missing" };
  }
  return undefined;
}

function weakness({ partitions, settings }: TopicState, brokers: number): Finding | undefined {
  const behind = partitions.find(({ inSync, replicas }) => inSync < replicas);
  if (behind) {
    const what = `partition ${behind.partition} has ${behind.inSync} of ${behind.replicas} replicas in sync`;
    return { status: "warn", what, fix: "see which broker is missing or behind" };
  }
  const replicas = Math.min(...partitions.map((each) => each.replicas));
  if (replicas === 1) {
    const what = "one replica: what its broker's disk loses is lost";
    const more = "give the topic three replicas (KAFKA_REPLICATION_FACTOR is for topics that are still to be made)";
    return { status: "warn", what, fix: brokers >= 3 ? more : "run three brokers, if that is not acceptable" };
  }
  if (replicas >= 3 && Number(settings.get("min.insync.replicas") ?? 2) < 2) {
    const what = "min.insync.replicas is 1: an event is acknowledged although only one broker may have it";
    return { status: "warn", what, fix: "set min.insync.replicas=2 on the topic" };
  }
  return undefined;
}

/** Redpanda's: with it an acknowledged event may be in memory only. */
export function judgeWriteCaching(topics: readonly TopicState[]): Finding {
  const told = topics.filter(({ settings }) => settings.has("write.caching"));
  const caching = told.filter(({ settings }) => settings.get("write.caching") === "true");
  if (caching.length > 0) {
    const names = caching.map(({ topic }) => topic).join(", ");
    const what = `write.caching is on for ${names}: events are acknowledged before they are on disk`;
    return { status: "fail", what, fix: "set write.caching=false on each of these topics" };
  }
  return told.length > 0
    ? { status: "ok", what: "off" }
    : { status: "skip", what: "not reported: these brokers have no setting write.caching (Apache Kafka has none)" };
}
