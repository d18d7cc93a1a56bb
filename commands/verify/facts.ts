// Identity facts of rows that come back from the log: stored and resolved before the rows are, so that a process
// killed in between does it again. Facts are a set; those that are there already change nothing.
import { randomUUID } from "node:crypto";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid, personIdOf } from "#lib/events/ids.ts";
import { ABOUT_PERSON, readObject } from "#lib/events/record-json.ts";
import { updatePeople } from "#lib/identity/closure.ts";
import { factsOf, IDENTITY_EVENTS, type IdentityFacts, readProperties } from "#lib/identity/facts.ts";
import { GROUP_EVENT } from "#lib/identity/groups.ts";
import { addIdentityRows, IDENTITY_COLUMNS, IDENTITY_TABLES, noIdentityRows } from "#lib/identity/rows.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { LogIdentity } from "./stored.ts";

/** Ids looked at for the facts of one run, at most; as the consumer's resolver has it. */
const IDS_MAX = 200_000;

/** Undefined when the event says nothing about identity. */
export function factsOfEvent(event: EventRecord): IdentityFacts | undefined {
  const { propertiesJson } = event;
  const isAbout = readObject(propertiesJson, 0, propertiesJson.length) === ABOUT_PERSON;
  if (!isAbout && !IDENTITY_EVENTS.has(event.event) && event.event !== GROUP_EVENT) return undefined;
  const properties = readProperties(propertiesJson);
  // Not JSON, from a producer that is no gateway: the row keeps the text, which says nothing.
  if (!properties) return undefined;
  const { distinctId, trusted, timeUs, receivedUs } = event;
  const moment = { timeUs: Number(timeUs), receivedUs: Number(receivedUs), eventId: formatUuid(event.id) };
  return factsOf({ event: event.event, distinctId, properties, trusted, ...moment });
}

export async function storeFacts(
  warehouse: Warehouse,
  origin: LogIdentity & { partition: number },
  said: readonly { offset: number; facts?: IdentityFacts | undefined }[],
): Promise<void> {
  const rows = noIdentityRows();
  const seeds = new Set<string>();
  for (const { offset, facts } of said) {
    if (!facts) continue;
    addIdentityRows(rows, facts, origin, offset);
    if (facts.edge) for (const id of [facts.edge.id, facts.edge.other]) seeds.add(personIdOf(id));
  }
  for (const table of IDENTITY_TABLES) {
    if (rows[table].length === 0) continue;
    const insertion = { table, columns: IDENTITY_COLUMNS[table], rows: Buffer.from(rows[table].join("")) };
    await warehouse.insert({ ...insertion, token: randomUUID() });
  }
  if (seeds.size > 0) await updatePeople(seeds, createIdentityStore(warehouse), IDS_MAX);
}
