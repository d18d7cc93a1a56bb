// Topics and groups under prefixes, for clusters that are shared. Outside this adapter, in rows and positions too, they have
// the names of lib/events/topics.ts.
import type { Assignment, OpenLog } from "../log.ts";

export interface KafkaNames {
  /** Default none. */
  topicPrefix?: string | undefined;
  /** Default none. */
  groupPrefix?: string | undefined;
}

export function topicName({ topicPrefix = "" }: KafkaNames, topic: string): string {
  return `${topicPrefix}${topic}`;
}

export function groupName({ groupPrefix = "" }: KafkaNames, group: string): string {
  return `${groupPrefix}${group}`;
}

/** `log` under the prefixes. */
export function withNames(log: OpenLog, names: KafkaNames): OpenLog {
  const named = (topic: string) => topicName(names, topic);
  return {
    ...log,
    append: (topic, records, signal, onSettled) => log.append(named(topic), records, signal, onSettled),
    consume: ({ topic, group, onAssigned, signal }) =>
      log.consume({
        topic: named(topic),
        group: groupName(names, group),
        onAssigned: (assignment) => onAssigned({ ...assignment, topic } satisfies Assignment),
        signal,
      }),
    tail: (topic, partition, options) => log.tail(named(topic), partition, options),
    bounds: (topic) => log.bounds(named(topic)),
    topicId: (topic) => log.topicId(named(topic)),
    committed: (topic, group) => log.committed(named(topic), groupName(names, group)),
    async createTopics(topics) {
      const made = new Set(await log.createTopics(topics.map((spec) => ({ ...spec, topic: named(spec.topic) }))));
      return topics.map(({ topic }) => topic).filter((topic) => made.has(named(topic)));
    },
    trim: (topic, partition, before) => log.trim(named(topic), partition, before),
  };
}
