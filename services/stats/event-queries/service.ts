// EventQueryService: messages to questions, rows to messages.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import {
  EventQueryService,
  type GetPersonRequest,
  GetPersonResponseSchema,
  ListDeadLettersResponseSchema,
  ListEventNamesResponseSchema,
  type ListEventsRequest,
  ListEventsResponseSchema,
  ListPeopleResponseSchema,
  ListPropertiesResponseSchema,
  QueryTrendResponseSchema,
  TrendInterval,
} from "#gen/millrace/stats/v1/event_queries_pb.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { readKeys } from "#lib/warehouse/property-statistics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Runner } from "../queries/run.ts";
import { NO_PERSON } from "../refusals.ts";
import { invalid, toRpcError } from "../rpc/errors.ts";
import { HOUR_MS } from "./counts.ts";
import { readLimit, readRange, readToken, readUuid, timeOfUs, tokenOf } from "./fields.ts";
import { createPeople, type People } from "./people.ts";
import {
  type DeadLetterRow,
  EVENTS_CURSOR,
  LETTERS_CURSOR,
  readDeadLetters,
  readEvents,
  type StoredEventRow,
} from "./stored-events.ts";
import { DAY_MS, MINUTE_MS, readNames, readTrend, stepFor } from "./trends.ts";

export interface EventQueryOptions {
  warehouse: Warehouse;
  runner: Runner;
  nowMs: () => number;
}

const STEPS: Partial<Record<TrendInterval, number>> = {
  [TrendInterval.MINUTE]: MINUTE_MS,
  [TrendInterval.HOUR]: HOUR_MS,
  [TrendInterval.DAY]: DAY_MS,
};
const INTERVALS = new Map(Object.entries(STEPS).map(([interval, ms]) => [ms, Number(interval) as TrendInterval]));
const SAMPLE = { blocks: 20, rows: 10_000 };
const NOT_PRINTABLE = /[^\x20-\x7e\u00a1-\uffff]/g;

export function registerEventQueries(router: ConnectRouter, { warehouse, runner, nowMs }: EventQueryOptions): void {
  const people = createPeople(runner);
  router.service(EventQueryService, {
    listEventNames: ({ range, contains, limit }, context) =>
      answered(context, async (signal) => {
        const asked = {
          range: readRange(range, nowMs()),
          limit: readLimit("limit", limit, { preset: 100, max: 1_000 }),
        };
        const { names, totalEvents, totalNames } = await readNames(runner, { ...asked, contains, signal });
        return create(ListEventNamesResponseSchema, {
          names: names.map(({ event, count, lastMs }) => ({
            event,
            count: BigInt(count),
            lastTime: timestampFromMs(lastMs),
          })),
          ...{ totalEvents: BigInt(totalEvents), totalNames: BigInt(totalNames) },
        });
      }),
    queryTrend: ({ range: given, event, interval, breakdown }, context) =>
      answered(context, async (signal) => {
        const range = readRange(given, nowMs());
        const stepMs = STEPS[interval] ?? stepFor(range);
        const { timesMs, series, every } = await readTrend(runner, { range, event, stepMs, breakdown, signal });
        return create(QueryTrendResponseSchema, {
          interval: INTERVALS.get(stepMs) ?? TrendInterval.UNSPECIFIED,
          times: timesMs.map((ms) => timestampFromMs(ms)),
          series: series.map(({ total, counts, ...rest }) => ({
            ...rest,
            total: BigInt(total),
            counts: counts.map(BigInt),
          })),
          sampledOneIn: every,
        });
      }),
    listEvents: (request, context) =>
      answered(context, (signal) => listEvents(runner, people, request, nowMs(), signal)),
    listProperties: ({ days: givenDays, event, limit: givenLimit }, context) =>
      answered(context, async (signal) => {
        const days = readLimit("days", givenDays, { preset: 7, max: 365 });
        const limit = readLimit("limit", givenLimit, { preset: 100, max: 1_000 });
        const scope = { days, event: event === "" ? undefined : event, sample: SAMPLE };
        const { total, sampled, keys } = await runner.turn("properties", signal, () =>
          readKeys(warehouse, scope, limit),
        );
        return create(ListPropertiesResponseSchema, {
          ...{ totalEvents: BigInt(total), sampledEvents: BigInt(sampled) },
          properties: keys.map(({ key, events, kinds, example }) => {
            return { key: cut(key), events: BigInt(events), types: kinds, exampleJson: example };
          }),
        });
      }),
    listPeople: ({ contains, limit }, context) =>
      answered(context, async (signal) => {
        const found = await people.list(contains, readLimit("limit", limit, { preset: 50, max: 500 }), signal);
        return create(ListPeopleResponseSchema, {
          people: found.map(({ lastUs, ...entry }) => ({ ...entry, lastTime: timeOfUs(lastUs) })),
        });
      }),
    getPerson: (request, context) =>
      answered(context, async (signal) => {
        const { ownId, distinctId } = readPerson(request);
        const { firstUs, lastUs, ...person } = await people.person(ownId, distinctId, signal);
        return create(GetPersonResponseSchema, {
          ...person,
          ...(firstUs === undefined ? {} : { firstTime: timeOfUs(firstUs) }),
          ...(lastUs === undefined ? {} : { lastTime: timeOfUs(lastUs) }),
        });
      }),
    listDeadLetters: ({ errorClass, pageSize, pageToken }, context) =>
      answered(context, async (signal) => {
        const limit = readLimit("page_size", pageSize, { preset: 50, max: 200 });
        const after = readToken(pageToken, LETTERS_CURSOR);
        const { classes, letters } = await readDeadLetters(runner, { errorClass, limit: limit + 1, after, signal });
        const { page, next } = paged(letters, limit, (last) => {
          return [last.ms, last.epoch, last.topic, last.partition, last.offset];
        });
        return create(ListDeadLettersResponseSchema, {
          classes: classes.map((each) => {
            const lastTime = timestampFromMs(Number(each.last));
            return { errorClass: each.errorClass, count: BigInt(each.n), lastTime };
          }),
          letters: page.map(letterMessage),
          nextPageToken: next,
        });
      }),
  });
}

/** Turns what went wrong into what the caller is told. */
async function answered<T>({ signal }: HandlerContext, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  try {
    return await work(signal);
  } catch (error) {
    throw toRpcError(error, signal);
  }
}

async function listEvents(
  runner: Runner,
  people: People,
  { range, event, person, pageSize, pageToken }: ListEventsRequest,
  nowMs: number,
  signal: AbortSignal,
) {
  const asked = { range: readRange(range, nowMs), after: readToken(pageToken, EVENTS_CURSOR) };
  const limit = readLimit("page_size", pageSize, { preset: 50, max: 500 });
  const rows = await readEvents(runner, {
    ...{ ...asked, event, limit: limit + 1, signal },
    person: await personCondition(people, person, signal),
  });
  const { page, next } = paged(rows, limit, (last) => [last.timeUs, last.partition, last.offset]);
  return create(ListEventsResponseSchema, { events: page.map(eventMessage), nextPageToken: next });
}

async function personCondition(people: People, person: ListEventsRequest["person"], signal: AbortSignal) {
  if (person.case === "personId") return people.condition(readUuid("person_id", person.value), signal);
  if (person.case === undefined) return { sql: "", params: {} };
  if (person.value === "" || person.value.includes("\0"))
    throw invalid("distinct_id: is empty, or holds a NUL character");
  return { sql: "AND distinct_id = {distinct:String}", params: { distinct: person.value.toWellFormed() } };
}

function readPerson({ person }: GetPersonRequest): { ownId: string; distinctId: string | undefined } {
  if (person.case === "personId") return { ownId: readUuid("person_id", person.value), distinctId: undefined };
  if (person.case === undefined || person.value === "") {
    throw invalid(NO_PERSON);
  }
  return { ownId: personIdOf(person.value.toWellFormed()), distinctId: person.value };
}

/** One row more than the page was read. */
function paged<Row>(rows: readonly Row[], limit: number, cursorOf: (last: Row) => (string | number)[]) {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { page, next: rows.length > limit && last !== undefined ? tokenOf(cursorOf(last)) : "" };
}

function eventMessage(row: StoredEventRow) {
  return {
    ...{ id: row.id, event: row.eventName, distinctId: row.distinctId, personIdAtIngest: row.personId },
    ...{ time: timeOfUs(row.timeUs), receiveTime: timeOfUs(row.receivedUs), propertiesJson: row.propertiesJson },
    ...{ source: row.sourceText, logPartition: row.partition, logOffset: BigInt(row.offset) },
    ...(row.value === null ? {} : { value: row.value }),
  };
}

function letterMessage({ epoch, topic, partition, offset, ms, errorClass, errorText, chars, begin }: DeadLetterRow) {
  const bytes = Math.floor((Number(chars) * 3) / 4);
  return {
    position: `${epoch}:${topic}:${partition}:${offset}`,
    logTime: timestampFromMs(Number(ms)),
    ...{ errorClass, error: errorText, bytes: BigInt(bytes) },
    text: Buffer.from(begin, "base64").toString().replace(NOT_PRINTABLE, "."),
  };
}

function cut(text: string): string {
  return text.length > 1_000 ? `${text.slice(0, 999)}…`.toWellFormed() : text;
}
