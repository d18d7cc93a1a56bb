// One erasure, from the tombstone to the certificate. Every step can be done again, by anybody, after a death at whatever
// moment: each looks for what is left to do.
import { randomUUID } from "node:crypto";
import { createErasures, type Erasure, type Erasures } from "#lib/identity/erasures.ts";
import { currentEpoch } from "#lib/ledger/epochs.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Certificate, certify, isClean } from "./certificate.ts";
import { consumed, type WaitOptions } from "./consumed.ts";
import { eraseEvents, eraseLetters, removeHidden } from "./events.ts";
import { countEdges, eraseEdges, eraseProfiles } from "./facts.ts";
import { personOf } from "./person.ts";
import { eraseFromRollup } from "./rollup.ts";

/** In the order in which they are taken. */
export type EraseStep = "hide" | "wait" | "erase again" | "rewrite files" | "compute roll-up" | "certify";

export interface EraseDeps extends WaitOptions {
  topic: string;
  /** Called before each step; what it throws ends the erasure there. */
  onStep(step: EraseStep): void | Promise<void>;
  nowMs(): number;
}

/** No log of the topic is known; the message names the remedy. */
export class NoEpochError extends Error {
  override readonly name = "NoEpochError";
}

/** Writes the tombstone: everything that is on the log now is erased, and nothing that comes later. */
export async function beginErasure(deps: EraseDeps, ownId: string): Promise<Erasure> {
  const { log, warehouse, topic } = deps;
  const epoch = await currentEpoch(log, warehouse, topic);
  if (epoch === undefined) {
    throw new NoEpochError(
      `ClickHouse database ${warehouse.database} has no epoch of topic ${topic}: run millrace migrate, or name the right CLICKHOUSE_DATABASE`,
    );
  }
  const bounds = await log.bounds(topic);
  const erasure: Erasure = {
    ...{ id: randomUUID(), personId: ownId, ownIds: [ownId], requestedAtMs: deps.nowMs(), epoch, topic },
    ends: new Map(bounds.map(({ partition, end }) => [partition, end])),
    olderEpochs: await olderEpochs(warehouse, topic, epoch),
    resolved: await resolvedOffsets(warehouse, topic, epoch),
    ...{ edges: 0, finishedAtMs: undefined },
  };
  await createErasures(warehouse).save(erasure);
  return erasure;
}

/**
 * Does what is left of an erasure. Rejects with ConsumerBehindError, PersonTooLargeError, LogUnavailableError or
 * WarehouseError; running it again goes on from there.
 */
export async function finishErasure(deps: EraseDeps, begun: Erasure): Promise<Certificate> {
  const { log, warehouse, onStep } = deps;
  const erasures = createErasures(warehouse);
  let erasure = await withPerson(warehouse, erasures, begun);
  await onStep("hide");
  await erasePerson(warehouse, erasure);
  await onStep("wait");
  // Of a log that was replaced since, nothing can come any more.
  if ((await currentEpoch(log, warehouse, deps.topic)) === erasure.epoch) await consumed(erasure, deps);
  // What came meanwhile may have joined the person to other ids, whose history is the person's then.
  erasure = await withPerson(warehouse, erasures, erasure);
  await onStep("erase again");
  await erasePerson(warehouse, erasure);
  erasure = { ...erasure, edges: Math.max(erasure.edges, await countEdges(warehouse, erasure.id)) };
  await erasures.save(erasure);
  await eraseEdges(warehouse, erasure);
  await onStep("rewrite files");
  await removeHidden(warehouse);
  await onStep("compute roll-up");
  await eraseFromRollup(warehouse, erasure);
  await onStep("certify");
  const certificate = await certify(log, warehouse, erasure);
  if (!isClean(certificate)) return certificate;
  erasure = { ...erasure, finishedAtMs: deps.nowMs() };
  await erasures.save(erasure);
  return { ...certificate, erasure };
}

async function erasePerson(warehouse: Warehouse, erasure: Erasure): Promise<void> {
  await eraseEvents(warehouse, erasure);
  await eraseLetters(warehouse, erasure);
  await eraseProfiles(warehouse, erasure);
}

/** With all ids that are the person's by the links that the erasure reaches. An id that was taken in stays. */
async function withPerson(warehouse: Warehouse, erasures: Erasures, erasure: Erasure): Promise<Erasure> {
  const { id, ownIds } = await personOf(warehouse, erasure.personId, erasure.id);
  const all = new Set([...erasure.ownIds, ...ownIds]);
  if (all.size === erasure.ownIds.length && id === erasure.personId) return erasure;
  const whole = { ...erasure, personId: id, ownIds: [...all].sort() };
  await erasures.save(whole);
  return whole;
}

async function olderEpochs(warehouse: Warehouse, topic: string, epoch: string): Promise<string[]> {
  const tables = ["events_raw", "dead_letters", "identity_edges"].map(
    (table) => `SELECT DISTINCT toString(log_epoch) AS e FROM ${table} WHERE log_topic = {topic:String}`,
  );
  const rows = await warehouse.query<{ e: string }>(
    `SELECT DISTINCT e FROM (${tables.join(" UNION ALL ")}) WHERE e != {epoch:String} ORDER BY e`,
    { params: { topic, epoch } },
  );
  return rows.map(({ e }) => e);
}

async function resolvedOffsets(warehouse: Warehouse, topic: string, epoch: string): Promise<Map<number, number>> {
  const rows = await warehouse.query<{ p: number; next: string }>(
    `SELECT log_partition AS p, max(next_offset) AS next FROM identity_progress
     WHERE log_epoch = {epoch:String} AND log_topic = {topic:String} GROUP BY p`,
    { params: { topic, epoch } },
  );
  return new Map(rows.map(({ p, next }) => [Number(p), Number(next)]));
}
