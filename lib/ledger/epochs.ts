// Which incarnation of a topic is being written. A log may know it itself (SQLite). Of the others it is in log_epochs: that of
// a topic with an id is the id, unless it was already being stored when ids were not kept (docs/decisions/epoch-of-topic-id.md).
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import type { LogReader } from "#lib/eventlog/log.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { appendedAt, holdsAnyStored, resetFault, storedHeads } from "./same-log.ts";
import type { StoredTopic } from "./stored-topics.ts";

interface RecordedEpoch {
  epoch: string;
  /** Of the topic whose records have this epoch; empty: that was not kept. */
  topicId: string;
  generation: number;
}

/** The topic's epoch; undefined when none was ever recorded. `topicId`: of the one that is meant, if not who has the name now. */
export async function currentEpoch(
  log: LogReader,
  warehouse: Warehouse,
  topic: string,
  topicId?: string,
): Promise<string | undefined> {
  return (await log.epoch()) ?? epochOf(await recordedEpochs(warehouse, topic), topicId ?? (await log.topicId(topic)));
}

/** What was recorded last, whatever the log is now. */
export async function recordedEpoch(warehouse: Warehouse, topic: string): Promise<string | undefined> {
  return (await recordedEpochs(warehouse, topic))[0]?.epoch;
}

/** Longer, and people are told what was recorded last instead. */
const ANSWER_MS_MAX = 1_000;

/** For people, who see what is stored also while the log does not answer: then the epoch that was recorded last. */
export async function epochToTell(log: LogReader, warehouse: Warehouse, topic: string): Promise<string | undefined> {
  const answered = new AbortController();
  const recorded = () => recordedEpoch(warehouse, topic);
  const late = setTimeout(ANSWER_MS_MAX, undefined, { signal: answered.signal }).then(recorded);
  try {
    return await Promise.race([currentEpoch(log, warehouse, topic).catch(recorded), late]);
  } finally {
    answered.abort();
  }
}

export interface EpochQuestion {
  log: LogReader;
  warehouse: Warehouse;
  kind: Pick<StoredTopic, "topic" | "table">;
  /** Of the log whose records are to be stored, as it gave it to the one who reads them. */
  topicId: string | undefined;
  logger: Logger;
}

/**
 * As `currentEpoch`, and recorded before anything is stored under it, so that all who ask agree: what several record at
 * once is the same. Undefined: there is none, and without a topic id only `recordEpoch` can make one.
 */
export async function settleEpoch(question: EpochQuestion): Promise<string | undefined> {
  const { log, warehouse, kind, topicId, logger } = question;
  const { topic } = kind;
  const own = await log.epoch();
  if (own !== undefined) return own;
  const recorded = await recordedEpochs(warehouse, topic);
  const [newest] = recorded;
  if (topicId === undefined || recorded.some((one) => one.topicId === topicId)) return epochOf(recorded, topicId);
  if (newest !== undefined && (await goesOn(question, recorded, newest.epoch))) {
    await insert(warehouse, topic, { ...newest, topicId });
    logger.info({ topic, topicId, epoch: newest.epoch }, "the epoch is that of this topic id from now on");
    return newest.epoch;
  }
  const epoch = epochOf(recorded, topicId) ?? topicId;
  // Of before topic ids, and not this log's: whoever stores under it will find that out, and what to do.
  if (epoch !== topicId) return epoch;
  await insert(warehouse, topic, { epoch, topicId, generation: (newest?.generation ?? 0) + 1 });
  if (newest === undefined) logger.info({ topic, epoch }, "new epoch recorded");
  else logger.warn({ topic, epoch, before: newest.epoch }, "the topic was deleted and made again, and has a new epoch");
  return epoch;
}

/** `settleEpoch`, once for all partitions of a topic that ask at a time: it may look through all that is stored. */
export function settlingTogether(): typeof settleEpoch {
  const underWay = new Map<string, ReturnType<typeof settleEpoch>>();
  return (question) => {
    const name = `${question.kind.topic} ${question.topicId}`;
    const begun = underWay.get(name) ?? settleEpoch(question).finally(() => underWay.delete(name));
    underWay.set(name, begun);
    return begun;
  };
}

/**
 * Begins a new incarnation, unless somebody else is just doing so, and resolves with the epoch that counts. `isWanted` is
 * told the epoch there is, and whether it is known to be that of this topic id, and says whether another one is to begin.
 */
export async function recordEpoch(
  warehouse: Warehouse,
  topic: string,
  topicId: string | undefined,
  isWanted: (present: string, isOfTopic: boolean) => boolean,
): Promise<{ epoch: string; isNew: boolean }> {
  const recorded = await recordedEpochs(warehouse, topic);
  const present = epochOf(recorded, topicId);
  const isOfTopic = recorded.some((one) => one.topicId !== "" && one.topicId === topicId);
  if (present !== undefined && !isWanted(present, isOfTopic)) return { epoch: present, isNew: false };
  const own = topicId === undefined || recorded.some(({ epoch }) => epoch === topicId) ? randomUUID() : topicId;
  const generation = (recorded[0]?.generation ?? 0) + 1;
  await insert(warehouse, topic, { epoch: own, topicId: topicId ?? "", generation });
  const epoch = epochOf(await recordedEpochs(warehouse, topic), topicId) ?? own;
  return { epoch, isNew: epoch === own };
}

/** Of the log with this id. */
function epochOf(recorded: readonly RecordedEpoch[], topicId: string | undefined): string | undefined {
  const [newest] = recorded;
  if (newest === undefined || topicId === undefined) return newest?.epoch;
  const own = recorded.find((one) => one.topicId === topicId);
  if (own !== undefined) return own.epoch;
  return isBound(recorded, newest.epoch) ? topicId : newest.epoch;
}

function isBound(recorded: readonly RecordedEpoch[], epoch: string): boolean {
  return recorded.some((one) => one.epoch === epoch && one.topicId !== "");
}

/** Whether the log has the records that are stored under the epoch, although nothing says that it is theirs. */
async function goesOn(
  { log, warehouse, kind }: EpochQuestion,
  recorded: readonly RecordedEpoch[],
  epoch: string,
): Promise<boolean> {
  const { topic } = kind;
  // It was another topic's: this one is a copy of that, as after moving to another cluster, only when it is seen to be.
  if (isBound(recorded, epoch)) return holdsAnyStored(log, warehouse, kind, epoch);
  const heads = await storedHeads(warehouse, kind, epoch);
  for (const bounds of await log.bounds(topic)) {
    const { partition } = bounds;
    const fault = await resetFault(heads.get(partition), bounds, (at) => appendedAt(log, topic, partition, at));
    if (fault !== undefined) return false;
  }
  return true;
}

/** Those that count first: of the highest generation, and in it the one recorded first, so that a second one changes nothing. */
async function recordedEpochs(warehouse: Warehouse, topic: string): Promise<RecordedEpoch[]> {
  const rows = await warehouse.query<{ epoch: string; id: string; g: number }>(
    `SELECT log_epoch AS epoch, topic_id AS id, generation AS g FROM log_epochs WHERE log_topic = {topic:String}
     ORDER BY generation DESC, toUnixTimestamp64Micro(created_at) * if(generation = 0, -1, 1), epoch`,
    { params: { topic } },
  );
  return rows.map(({ epoch, id, g }) => ({ epoch, topicId: id, generation: Number(g) }));
}

async function insert(
  warehouse: Warehouse,
  topic: string,
  { epoch, topicId, generation }: RecordedEpoch,
): Promise<void> {
  await warehouse.insert({
    table: "log_epochs",
    columns: ["log_topic", "log_epoch", "topic_id", "generation"],
    rows: Buffer.from(`${JSON.stringify([topic, epoch, topicId, generation])}\n`),
    // On one server, which has no window of tokens here, the same may be there twice: that changes nothing.
    token: JSON.stringify([topic, epoch, topicId]),
  });
}
