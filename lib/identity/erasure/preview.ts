// What is stored of a person, before anything is done about it.
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { countLetters } from "./events.ts";
import { STATEMENT_SECONDS_MAX } from "./mutation.ts";
import { type Person, personOf } from "./person.ts";

export interface Preview {
  person: Person;
  events: number;
  deadLetters: number;
  /** Of the person's ids, those that identity facts name. */
  namedIds: number;
}

/** Ids are bound values, which travel in a URL. */
const IDS_PER_QUERY = 2000;

/** Rejects with PersonTooLargeError or WarehouseError. */
export async function previewOf(warehouse: Warehouse, ownId: string): Promise<Preview> {
  const person = await personOf(warehouse, ownId);
  const countOf = async (expression: string, table: string, column: string) => {
    let count = 0;
    for (let at = 0; at < person.ownIds.length; at += IDS_PER_QUERY) {
      const [row] = await warehouse.query<{ n: string }>(
        `SELECT ${expression} AS n FROM ${table} WHERE ${column} IN {ids:Array(UUID)}`,
        { params: { ids: person.ownIds.slice(at, at + IDS_PER_QUERY) }, maxSeconds: STATEMENT_SECONDS_MAX },
      );
      count += Number(row?.n ?? 0);
    }
    return count;
  };
  return {
    person,
    events: await countOf("count()", "events_raw", "person_id_at_ingest"),
    deadLetters: await countLetters(warehouse, person.ownIds),
    namedIds: await countOf("uniqExact(own_person_id)", "identity_ids", "own_person_id"),
  };
}

export function isNothing({ events, deadLetters, namedIds }: Preview): boolean {
  return events + deadLetters + namedIds === 0;
}
