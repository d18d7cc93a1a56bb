// Topics that were there before: one whose settings Millrace cannot work with is refused, another number of partitions said.
import type { Admin } from "kafkajs";
import type { Logger } from "#lib/process/log.ts";
import { type TopicSpec, UnfitTopicError } from "../log.ts";
import { describeTopics } from "./inspection.ts";
import { isRefusedByAcl, protocolErrorOf } from "./refusals.ts";

/** Groups of records are made to stay below Kafka's default; the margin is for their headers. */
const MESSAGE_BYTES_MIN = 1_000_000;

/** A setting that durability, order or the id window cannot rest on, and what to do; undefined when there is none. */
export function settingFault(settings: ReadonlyMap<string, string>): { what: string; fix: string } | undefined {
  if (settings.get("cleanup.policy")?.includes("compact")) {
    const what = "cleanup.policy has compact: of events with one key all but the last are removed";
    return { what, fix: "set cleanup.policy=delete on the topic" };
  }
  if ((settings.get("message.timestamp.type") ?? "LogAppendTime") !== "LogAppendTime") {
    const what = "message.timestamp.type is not LogAppendTime: retention and the id window would go by callers' clocks";
    return { what, fix: "set message.timestamp.type=LogAppendTime on the topic" };
  }
  if (Number(settings.get("max.message.bytes") ?? MESSAGE_BYTES_MIN) < MESSAGE_BYTES_MIN) {
    const what = `max.message.bytes is ${settings.get("max.message.bytes")}: larger groups of events are refused`;
    return { what, fix: "set max.message.bytes=1048588 on the topic" };
  }
  return undefined;
}

/** Rejects with UnfitTopicError. */
export async function checkPresent(admin: Admin, specs: readonly TopicSpec[], logger: Logger): Promise<void> {
  const topics = specs.map(({ topic }) => topic);
  const states = await describeTopics(admin, topics).catch((error: unknown) => {
    // Somebody makes it at this moment, and not all brokers have heard of it: nothing was there before.
    if (protocolErrorOf(error) === "UNKNOWN_TOPIC_OR_PARTITION") return [];
    if (!isRefusedByAcl(error)) throw error;
    const needs = "grant this user DescribeConfigs, or see what `millrace doctor` says with a user that has it";
    logger.warn({ topics }, `topics were there before, and their settings cannot be seen: ${needs}`);
    return [];
  });
  for (const { topic, partitions, settings } of states) {
    const fault = settingFault(settings);
    if (fault) throw new UnfitTopicError(`topic ${topic} was there before: ${fault.what}; ${fault.fix}`);
    const wanted = specs.find((spec) => spec.topic === topic)?.partitions;
    if (partitions.length === wanted) continue;
    const advice =
      "a topic keeps its number until Kafka's own tools add to it, and of those KAFKA_PARTITIONS is how many are used";
    logger.warn(
      { topic, partitions: partitions.length, wanted },
      `the topic has another number of partitions: ${advice}`,
    );
  }
}
