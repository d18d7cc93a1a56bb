// Which ids are the person's: by the links that are stored, not by person_overrides, which may be a moment behind.
import { closureOf, type EdgeSource } from "#lib/identity/closure.ts";
import type { Edge, EdgeKind } from "#lib/identity/facts.ts";
import { resolveIds } from "#lib/identity/resolve.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { STATEMENT_SECONDS_MAX } from "./mutation.ts";
import { BELOW } from "./sql.ts";

export interface Person {
  id: string;
  ownIds: string[];
}

/** Links reach more ids than can be looked at, so that nobody knows who the person is. */
export class PersonTooLargeError extends Error {
  override readonly name = "PersonTooLargeError";
}

const IDS_MAX = 1_000_000;
const IDS_PER_QUERY = 2000;
const NOBODY = "00000000-0000-0000-0000-000000000000";

/**
 * The person that an own person id belongs to. With an erasure, by the links that it reaches: those that came later are
 * a new person's. Rejects with PersonTooLargeError or WarehouseError.
 */
export async function personOf(warehouse: Warehouse, ownId: string, erasureId?: string): Promise<Person> {
  const where = erasureId === undefined ? "true" : BELOW;
  const source: EdgeSource = {
    relativesOf: createIdentityStore(warehouse).relativesOf,
    async edgesOf(ids) {
      const edges: Edge[] = [];
      for (let at = 0; at < ids.length; at += IDS_PER_QUERY) {
        const some = ids.slice(at, at + IDS_PER_QUERY);
        const rows = await warehouse.query<{ i: string; o: string; k: EdgeKind; t: boolean; at: string; e: string }>(
          `SELECT toString(id) AS i, toString(other) AS o, kind AS k, is_trusted AS t, time_us AS at, toString(event_id) AS e
           FROM identity_edges WHERE own_person_id IN {ids:Array(UUID)} AND kind != 'erased' AND ${where}`,
          {
            params: { ids: some, ...(erasureId === undefined ? {} : { erasure: erasureId }) },
            maxSeconds: STATEMENT_SECONDS_MAX,
          },
        );
        for (const { i, o, k, t, at: us, e } of rows) {
          edges.push({ kind: k, id: i, other: o === NOBODY ? "" : o, trusted: t, timeUs: Number(us), eventId: e });
        }
      }
      return edges;
    },
  };
  const { edges, ids, isCut } = await closureOf([ownId], source, IDS_MAX);
  if (isCut)
    throw new PersonTooLargeError(`the person's links reach more than ${IDS_MAX} ids: nothing can be said of it`);
  const canonical = resolveIds(edges);
  const person = canonical.get(ownId) ?? ownId;
  return { id: person, ownIds: [...ids].filter((id) => (canonical.get(id) ?? id) === person).sort() };
}
