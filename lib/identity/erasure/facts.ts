// Identity facts of the person. Two rules make it less than a plain deletion:
//
// - Rows of identity_edges are a clock (migrations/0002_identity.sql). Markers are added before the deletion, so that it
//   never goes back behind what it showed before, and again after it, so that it then shows more than it ever did:
//   a process that resolves from there on is newer than anybody who saw the deleted edges, and newer than anybody who read the
//   clock in between. Who did that, and wrote with too low a version therefore, is made good by resolving again.
// - identity_ids and identity_properties do not say from which offset a row came, so all rows of the ids go, and what
//   later events said is stored again. An event is stored before its facts: what was deleted of them can be found.
import { randomUUID } from "node:crypto";
import { updatePeople } from "#lib/identity/closure.ts";
import type { Erasure } from "#lib/identity/erasures.ts";
import { factsOf, IDENTITY_EVENTS, readProperties } from "#lib/identity/facts.ts";
import { addIdentityRows, IDENTITY_COLUMNS, noIdentityRows } from "#lib/identity/rows.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { mutate, STATEMENT_SECONDS_MAX } from "./mutation.ts";
import { BELOW, EDGES, IDS, POSITION } from "./sql.ts";

/** Tables whose rows say what is known of an id. */
const PROFILE_TABLES = ["identity_ids", "identity_properties"] as const;
const EDGES_PER_ROUND = 5000;
/** Ids looked at around the person's own. */
const IDS_AROUND = 200_000;
const ROWS_PER_INSERT = 20_000;

/** The distinct ids and properties are gone when it resolves, but for those that later events said. */
export async function eraseProfiles(warehouse: Warehouse, { id }: Erasure): Promise<void> {
  const options = { params: { erasure: id }, maxSeconds: STATEMENT_SECONDS_MAX };
  for (const table of PROFILE_TABLES) {
    const where = `own_person_id IN ${IDS}`;
    const found = await warehouse.query(`SELECT 1 FROM ${table} WHERE ${where} LIMIT 1`, options);
    if (found.length === 0) continue;
    await mutate(warehouse, table, `ALTER TABLE ${table} DELETE WHERE ${where} SETTINGS mutations_sync = 0`, {
      erasure: id,
    });
  }
  await storeLaterFacts(warehouse, id);
}

/** What events beyond the ends say about the ids. The consumer may store it as well: a fact is one however often it is said. */
async function storeLaterFacts(warehouse: Warehouse, erasureId: string): Promise<void> {
  const edges = `SELECT ${POSITION} FROM identity_edges WHERE own_person_id IN ${IDS} AND NOT ${BELOW}`;
  type Row = Record<"event" | "distinctId" | "id" | "us" | "json", string> & { hasEdge: number };
  const rows = await warehouse.query<Row>(
    `SELECT event, distinct_id AS distinctId, toString(uuid) AS id, toUnixTimestamp64Micro(timestamp) AS us,
            properties AS json, (${POSITION}) IN (${edges}) AS hasEdge
     FROM events_raw
     WHERE NOT ${BELOW} AND (event IN {names:Array(String)} OR multiSearchAny(properties, ['"$set', '"$unset'])) AND (person_id_at_ingest IN ${IDS} OR (${POSITION}) IN (${edges}))`,
    { params: { erasure: erasureId, names: [...IDENTITY_EVENTS] }, maxSeconds: STATEMENT_SECONDS_MAX },
  );
  const found = noIdentityRows();
  // Positions go into edges, and those are there.
  const nowhere = { epoch: "", topic: "", partition: 0 };
  for (const { event, distinctId, id, us, json, hasEdge } of rows) {
    const source = {
      event,
      distinctId,
      properties: readProperties(Buffer.from(json)) ?? {},
      timeUs: Number(us),
      eventId: id,
    };
    // Only a merge asks whether its caller was trusted, and one that was not has no edge.
    addIdentityRows(found, factsOf({ ...source, trusted: hasEdge === 1 }), nowhere, 0);
  }
  for (const table of PROFILE_TABLES) {
    for (let at = 0; at < found[table].length; at += ROWS_PER_INSERT) {
      const text = found[table].slice(at, at + ROWS_PER_INSERT).join("");
      const insertion = { table, columns: IDENTITY_COLUMNS[table], rows: Buffer.from(text) };
      await warehouse.insert({ ...insertion, token: randomUUID() });
    }
  }
}

/** Rows of identity_edges that are to be deleted. */
export async function countEdges(warehouse: Warehouse, erasureId: string): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>(`SELECT count() AS n FROM identity_edges WHERE ${EDGES}`, {
    params: { erasure: erasureId },
    maxSeconds: STATEMENT_SECONDS_MAX,
  });
  return Number(row?.n ?? 0);
}

/** `erasure.edges` must have been saved before: after a crash it says what the clock has to make good. */
export async function eraseEdges(warehouse: Warehouse, erasure: Erasure): Promise<void> {
  const options = { params: { erasure: erasure.id }, maxSeconds: STATEMENT_SECONDS_MAX };
  if (erasure.edges > 0) {
    await addMarkers(warehouse, erasure.edges + 1);
    if ((await countEdges(warehouse, erasure.id)) > 0) {
      // Somebody else's identify that names an id of the person still says that the somebody is identified.
      await warehouse.command(
        `INSERT INTO identity_edges
           (own_person_id, id, other, kind, is_trusted, time_us, event_id, ${POSITION})
         SELECT id, id, toUUID('00000000-0000-0000-0000-000000000000'), kind, is_trusted, time_us, event_id, ${POSITION}
         FROM identity_edges WHERE ${EDGES} AND kind = 'identify' AND own_person_id = id AND id NOT IN ${IDS}`,
        options,
      );
      const deletion = `ALTER TABLE identity_edges DELETE WHERE ${EDGES} SETTINGS mutations_sync = 0`;
      await mutate(warehouse, "identity_edges", deletion, options.params);
    }
    await addMarkers(warehouse, erasure.edges + 1);
  }
  await resolveAgain(warehouse, erasure);
}

/** They belong to no id and no partition, so nobody reads them; they only count. */
async function addMarkers(warehouse: Warehouse, count: number): Promise<void> {
  await warehouse.command("INSERT INTO identity_edges (kind) SELECT 'erased' FROM numbers({count:UInt64})", {
    params: { count },
    maxSeconds: STATEMENT_SECONDS_MAX,
  });
}

async function resolveAgain(warehouse: Warehouse, { ownIds, ends, resolved, epoch, topic }: Erasure): Promise<void> {
  const store = createIdentityStore(warehouse);
  await updatePeople(ownIds, store, ownIds.length + IDS_AROUND);
  for (const partition of ends.keys()) {
    let from = resolved.get(partition) ?? 0;
    for (;;) {
      const edges = await store.logged({ epoch, topic, partition }, from, EDGES_PER_ROUND);
      const last = edges.at(-1);
      if (!last) break;
      await updatePeople(
        edges.flatMap(({ ids }) => ids),
        store,
        IDS_AROUND,
      );
      from = last.offset + 1;
    }
  }
}
