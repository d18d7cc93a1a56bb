// What was found, as sightings: one record of the log each, with what became of it.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, type TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import {
  type EventViewSchema,
  LogPositionSchema,
  ReceiptState,
  type Sighting,
  SightingSchema,
} from "#gen/millrace/stats/v1/receipts_pb.ts";
import { formatUuid } from "#lib/events/ids.ts";
import type { LogPlace } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { PositionNames } from "#lib/ledger/position-name.ts";
import type { AskedPosition } from "./asked.ts";
import {
  type Found,
  type FoundLetter,
  type FoundOutcome,
  type FoundRow,
  keyOf,
  PROPERTIES_CHARS_MAX,
} from "./lookup.ts";
import type { Backlog, WaitingRecord } from "./waiting.ts";

export interface Sightings {
  ofId(id: string): Sighting[];
  ofPosition(asked: AskedPosition): Sighting[];
}

export interface SightingsSource {
  stored: Found;
  backlog: Backlog | undefined;
  current: string | undefined;
}

const OUTCOMES: Readonly<Record<string, ReceiptState>> = {
  duplicate: ReceiptState.DUPLICATE,
  conflict: ReceiptState.CONFLICT,
  dead_letter: ReceiptState.DEAD_LETTER,
  erased: ReceiptState.ERASED,
  lost: ReceiptState.LOST,
};

export function createSightings(
  { stored, backlog, current }: SightingsSource,
  names: PositionNames,
  whyWaiting: (partition: number) => string,
): Sightings {
  const rows = new Map(stored.rows.map((row) => [keyOf(row.place), row]));
  const outcomes = new Map(stored.outcomes.map((outcome) => [keyOf(outcome.place), outcome]));
  const letters = new Map(stored.letters.map((letter) => [keyOf(letter.place), letter]));
  const waiting = new Map((backlog?.found ?? []).map((each) => [keyOf(placeOf(each)), each]));
  const show = { rows, outcomes, letters, waiting };

  function placeOf({ partition, offset }: { partition: number; offset: number }): LogPlace {
    return { epoch: current ?? "", topic: EVENTS_TOPIC, partition, offset };
  }

  const position = (place: LogPlace) =>
    create(LogPositionSchema, {
      ...{ name: names.nameOf(place), epoch: place.epoch, topic: place.topic, partition: place.partition },
      offset: BigInt(place.offset),
    });

  /** An outcome says what is to hold, also while the row of an erased event is still there. */
  function sightingAt(key: string): Sighting | undefined {
    const [row, outcome, letter, record] = [
      show.rows.get(key),
      show.outcomes.get(key),
      show.letters.get(key),
      show.waiting.get(key),
    ];
    if (outcome && OUTCOMES[outcome.outcome] !== undefined) return ofOutcome(outcome, letter);
    if (row) return ofRow(row);
    if (letter) return ofLetter(letter);
    return record && ofWaiting(record);
  }

  function ofRow(row: FoundRow): Sighting {
    const { place, receivedUs, appendedMs, storedMs } = row;
    return create(SightingSchema, {
      state: ReceiptState.STORED,
      position: position(place),
      ...times(receivedUs, appendedMs),
      event: viewOf(row),
      ...(storedMs !== undefined && {
        stored: timestampOfMs(storedMs),
        latency: durationOfMs(Math.max(0, storedMs - receivedUs / 1000)),
      }),
    });
  }

  function ofOutcome(outcome: FoundOutcome, letter: FoundLetter | undefined): Sighting {
    const { place, appendedMs, detail } = outcome;
    const state = OUTCOMES[outcome.outcome] ?? ReceiptState.UNSPECIFIED;
    if (state === ReceiptState.DEAD_LETTER) {
      return ofLetter(letter ?? { id: "", place, appendedMs, errorClass: detail, error: "" });
    }
    const first = firstOf(outcome);
    return create(SightingSchema, {
      ...{ state, position: position(place), appended: timestampOfMs(appendedMs) },
      ...(first && { first: position(first) }),
      ...(state === ReceiptState.ERASED && { erasureId: detail }),
    });
  }

  function ofLetter({ place, appendedMs, errorClass, error }: FoundLetter): Sighting {
    const at = position(place);
    const letter = { errorClass, reason: error, replay: `millrace dead-letters replay ${at.name}` };
    return create(SightingSchema, {
      ...{ state: ReceiptState.DEAD_LETTER, position: at, appended: timestampOfMs(appendedMs), letter },
    });
  }

  function ofWaiting({ record, partition, offset, appendedMs, nextOffset }: WaitingRecord): Sighting {
    return create(SightingSchema, {
      state: ReceiptState.WAITING,
      position: position(placeOf({ partition, offset })),
      ...(record ? times(Number(record.receivedUs), appendedMs) : { appended: timestampOfMs(appendedMs) }),
      ...(record && { event: viewOf(factsOf(record)) }),
      waiting: {
        nextOffset: BigInt(nextOffset),
        recordsAhead: BigInt(Math.max(0, offset - nextOffset)),
        reason: whyWaiting(partition),
      },
    });
  }

  function sightings(keys: Iterable<string>): Sighting[] {
    return [...new Set(keys)].flatMap((key) => sightingAt(key) ?? []);
  }

  return {
    ofId(id) {
      const own = stored.rows.filter((row) => row.id === id).map(({ place }) => keyOf(place));
      const repeats = stored.outcomes.filter((outcome) => {
        const first = firstOf(outcome);
        return first !== undefined && own.includes(keyOf(first));
      });
      const ofLetters = stored.letters.filter((letter) => letter.id === id);
      const ofLog = (backlog?.found ?? []).filter(({ record }) => record && formatUuid(record.id) === id).map(placeOf);
      return sightings([...own, ...[...ofLetters, ...repeats].map(({ place }) => keyOf(place)), ...ofLog.map(keyOf)]);
    },
    ofPosition({ epoch, partition, offset }) {
      const isMeant = (key: string) =>
        key.endsWith(`:${partition}:${offset}`) &&
        (epoch === "" ? key.startsWith(`${current}:`) : key.startsWith(epoch));
      const own = [...rows.keys(), ...outcomes.keys(), ...letters.keys(), ...waiting.keys()].filter(isMeant);
      const repeats = stored.outcomes.filter((outcome) => {
        const first = firstOf(outcome);
        return first !== undefined && own.includes(keyOf(first));
      });
      return sightings([...own, ...repeats.map(({ place }) => keyOf(place))]);
    },
  };
}

/** The row that a repeat is of: "partition:offset", after the epoch when that is an older one. */
function firstOf({ place, outcome, detail }: FoundOutcome): LogPlace | undefined {
  if (outcome !== "duplicate" && outcome !== "conflict") return undefined;
  const [, epoch = place.epoch, partition, offset] = /^(?:(.+):)?(\d+):(\d+)$/.exec(detail) ?? [];
  if (partition === undefined) return undefined;
  return { epoch, topic: place.topic, partition: Number(partition), offset: Number(offset) };
}

interface EventFacts {
  id: string;
  event: string;
  distinctId: string;
  source: string;
  value: number | undefined;
  timeUs: number;
  properties: string;
}

export function factsOf(record: EventRecord): EventFacts {
  const { event, distinctId, source, value, timeUs } = record;
  const properties = Buffer.from(record.propertiesJson).toString();
  return { id: formatUuid(record.id), event, distinctId, source, value, timeUs: Number(timeUs), properties };
}

export function viewOf({ id, event, distinctId, source, value, timeUs, properties }: EventFacts) {
  return {
    ...{ id, event, distinctId, source, time: timestampOfUs(timeUs) },
    ...(value !== undefined && { value }),
    propertiesJson: properties.slice(0, PROPERTIES_CHARS_MAX).toWellFormed(),
    isCut: properties.length > PROPERTIES_CHARS_MAX,
  } satisfies MessageInitShape<typeof EventViewSchema>;
}

function times(receivedUs: number, appendedMs: number) {
  return { received: timestampOfUs(receivedUs), appended: timestampOfMs(appendedMs) };
}

export function timestampOfMs(ms: number): Timestamp {
  return timestampFromMs(ms);
}

export function timestampOfUs(us: number): MessageInitShape<typeof TimestampSchema> {
  const seconds = Math.floor(us / 1e6);
  return { seconds: BigInt(seconds), nanos: Math.round(us - seconds * 1e6) * 1000 };
}

export function durationOfMs(ms: number) {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
