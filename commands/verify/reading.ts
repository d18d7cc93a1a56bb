// What a record of each topic is as a row, for those that have to be stored again.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodePoint, pointId } from "#lib/events/point-record.ts";
import { createPointRows } from "#lib/events/point-row.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { createEventRows, type RowOrigin } from "#lib/events/row.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import type { IdentityFacts } from "#lib/identity/facts.ts";
import { factsOfEvent } from "./facts.ts";

export interface Reading {
  /** UUID text, when another record may have it as well. */
  id: string | undefined;
  /** Within which the id is one. */
  apiKey: string;
  /** JSONCompactEachRow line of the topic's table. */
  row(): Uint8Array;
  /** What it says about identity. */
  facts: IdentityFacts | undefined;
}

/** Throws PoisonRecordError for a record that cannot be a row. */
export type Reader = (record: StoredRecord) => Reading;

export function createReader(origin: RowOrigin): Reader {
  return origin.topic === POINTS_TOPIC ? createPointReader(origin) : createEventReader(origin);
}

function createEventReader(origin: RowOrigin): Reader {
  const rows = createEventRows(origin);
  return ({ value, offset, appendTimeMs }) => {
    const event = decodeRecord(value);
    return {
      id: event.idFromCaller || event.checkStored ? formatUuid(event.id) : undefined,
      apiKey: event.apiKey,
      // The mapper's view is valid until its next row.
      row: () => Buffer.from(rows.row(event, offset, appendTimeMs)),
      facts: factsOfEvent(event),
    };
  };
}

function createPointReader(origin: RowOrigin): Reader {
  const rowOf = createPointRows(origin);
  return ({ value, offset, appendTimeMs }) => {
    const point = decodePoint(value);
    return {
      id: formatUuid(pointId(point)),
      apiKey: "",
      row: () => Buffer.from(rowOf(point, offset, appendTimeMs)),
      facts: undefined,
    };
  };
}
