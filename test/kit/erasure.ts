// A person to be erased among others: what was said, where it is on the log, and what must be left of it.
import { randomUUID } from "node:crypto";
import type { Position } from "#lib/eventlog/log.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Certificate } from "#lib/identity/erasure/certificate.ts";
import { beginErasure, type EraseDeps, finishErasure } from "#lib/identity/erasure/erase.ts";
import type { Erasure } from "#lib/identity/erasures.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { auditLog, isClean as isAuditClean } from "../../commands/verify/audit.ts";
import type { TestClickHouse } from "./clickhouse.ts";
import { createStage, type Stage } from "./consumer.ts";
import { recordOf, type Said } from "./identity.ts";
import { until } from "./until.ts";

interface Told extends Said {
  position: Position;
}

export interface Scene extends AsyncDisposable {
  stage: Stage;
  warehouse: Warehouse;
  told: Told[];
  tell(...lines: Omit<Said, "id">[]): Promise<void>;
  /** Everything is stored, and everybody is who they are. */
  settled(): Promise<void>;
  deps(changed?: Partial<EraseDeps>): EraseDeps;
  erase(distinctId: string): Promise<Certificate>;
  verify(): Promise<boolean>;
}

/** `database` must not exist yet. */
export async function createScene(clickhouse: TestClickHouse, database: string, partitions = 4): Promise<Scene> {
  await clickhouse.migrate(database);
  const warehouse = clickhouse.warehouse(database);
  const stage = await createStage(warehouse, { partitions, epoch: "e" });
  const log = { ...stage.log, epoch: async () => stage.epoch };
  const told: Told[] = [];
  const scene: Scene = {
    stage,
    warehouse,
    told,
    async tell(...lines) {
      const said = lines.map((line, n): Said => ({ at: told.length + n, ...line, id: randomUUID() }));
      const positions = await stage.log.append(
        EVENTS_TOPIC,
        said.map((line) => recordOf(line)),
      );
      told.push(...said.map((line, n) => ({ ...line, position: positions[n] as Position })));
    },
    async settled() {
      await stage.drained();
      await until(async () => {
        const behind = await warehouse.query(
          `SELECT 1 FROM (SELECT log_partition AS p, max(log_offset) AS last FROM identity_edges WHERE kind != 'erased' GROUP BY p) AS e
           LEFT JOIN (SELECT log_partition AS p, max(next_offset) AS next FROM identity_progress GROUP BY p) AS r USING p
           WHERE next <= last`,
        );
        return behind.length === 0;
      }, "every edge is resolved");
    },
    deps: (changed) => ({
      ...{ log, warehouse, topic: EVENTS_TOPIC, patienceMs: 20_000, nowMs: Date.now },
      ...{ onStep: () => {}, onLook: () => {}, ...changed },
    }),
    async erase(distinctId) {
      const deps = scene.deps();
      return finishErasure(deps, await beginErasure(deps, personIdOf(distinctId)));
    },
    verify: async () => isAuditClean(await auditLog({ log, warehouse, kind: STORED_EVENTS })),
    [Symbol.asyncDispose]: () => stage[Symbol.asyncDispose](),
  };
  return scene;
}

type Line = Omit<Said, "id">;
export const seen = (distinctId: string): Line => ({ event: "seen", distinctId });
export const identify = (distinctId: string, anon: string): Line => ({
  ...{ event: "$identify", distinctId },
  properties: { $anon_distinct_id: anon, $set: { name: distinctId } },
});
export const set = (distinctId: string, n: number): Line => ({
  event: "$set",
  distinctId,
  properties: { $set: { n } },
});
export const merge = (distinctId: string, alias: string): Line => ({
  ...{ event: "$merge_dangerously", distinctId, trusted: true },
  properties: { alias },
});

/** What an erasure leaves: lines of others, and those that came after it. */
export function leftBy({ ends }: Erasure, told: readonly Told[], ids: readonly string[]): Told[] {
  return told.filter(({ distinctId, position: { partition, offset } }) => {
    return !ids.includes(distinctId) || offset >= (ends.get(partition) ?? 0);
  });
}

export function countsOf(told: readonly Told[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { distinctId } of told) counts[distinctId] = (counts[distinctId] ?? 0) + 1;
  return counts;
}

export async function storedCounts(warehouse: Warehouse): Promise<Record<string, number>> {
  const rows = await warehouse.query<{ d: string; n: string }>(
    "SELECT distinct_id AS d, count() AS n FROM events GROUP BY d",
  );
  return Object.fromEntries(rows.map(({ d, n }) => [d, Number(n)]));
}
