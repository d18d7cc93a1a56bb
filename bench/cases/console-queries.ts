// What the console's views ask, one question each, as the page sends them: for every range it offers, for all names, the
// most frequent one and a rare one; and what a view asks at once when it is opened.
import { personIdOf } from "#lib/events/ids.ts";
import { BOT, distinctIdOf, type Filled, idOf, LETTER_CLASSES, positionOf } from "./console-data.ts";
import { METRICS } from "./points-data.ts";

export interface Call {
  method: string;
  body: object;
}

export interface Question {
  name: string;
  /** Asked at once: one of a question, several of a view that is opened. */
  calls(): Call[];
}

const HOUR_MS = 3_600_000;
const RANGES = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 } as const;
/** As the Hosts view takes them, seconds. */
const STEPS = { "1h": 300, "24h": 900, "7d": 3_600, "30d": 14_400 } as const;
const BUSY = "event_0";
const RARE = "event_30";
/** As the page asks at most, and the RPC. */
const MANY = 100;
const MOST = 1_000;

type RangeName = keyof typeof RANGES;

const of = (event: string) => (event === "" ? "all" : event === BUSY ? "a busy name" : "a rare name");
const ask = (method: string, body: object): Call => ({ method: `EventQueryService/${method}`, body });
const names = (range: RangeName, limit = 500) => ask("ListEventNames", { ...rangeOf(range), limit });
const trend = (range: RangeName, event = "", breakdown = "") =>
  ask("QueryTrend", { ...rangeOf(range), event, breakdown });
const newest = (range: RangeName, event: string) => ask("ListEvents", { ...rangeOf(range), event, pageSize: 200 });
/** Of all names the page asks for a day. */
const properties = (range: RangeName, event: string) =>
  ask("ListProperties", { days: event === "" ? 1 : Math.max(1, RANGES[range] / 24), event, limit: 200 });
const timeline = (range: RangeName, person: object) =>
  ask("ListEvents", { ...rangeOf(range), ...person, pageSize: 200 });
const status = (): Call => ({ method: "StatusService/GetStatus", body: {} });
const peopleLately = () => ask("ListPeople", { limit: 200 });
const metrics = (): Call => ({ method: "StatsService/ListMetrics", body: {} });
const series = (range: RangeName, metric: string): Call => ({
  method: "StatsService/QuerySeries",
  body: { metric, groupBy: ["host"], ...rangeOf(range).range, interval: `${STEPS[range]}s` },
});
const alerts = (): Call => ({ method: "AlertService/ListAlerts", body: {} });
const changes = (): Call => ({ method: "AlertService/ListTransitions", body: { pageSize: 100 } });
const where = (ids: string[]): Call => ({ method: "ReceiptService/Where", body: { ids } });

export function questionsOf(filled: Filled): Question[] {
  const { events, people, repeats, letters, endMs } = filled;
  const below = (n: number) => Math.floor(Math.random() * n);
  const someone = () => ({ distinctId: distinctIdOf(1 + below(people - 1)) });
  const somebody = () => ({ personId: personIdOf(someone().distinctId) });
  const someEvent = () => idOf(below(events));
  const someMetric = () => `metric_${below(METRICS)}`;
  const lettersFrom = events + repeats;
  const positions = () => Array.from({ length: Math.min(MANY, letters) }, (_, n) => positionOf(lettersFrom + n));
  const olderThan = Buffer.from(JSON.stringify([endMs, "~", "", 0, "0"])).toString("base64url");
  const one = (name: string, call: () => Call): Question => ({ name, calls: () => [call()] });
  const many = (length: number, id: () => string) => where(Array.from({ length }, id));
  const each = Object.keys(RANGES) as RangeName[];
  return [
    ...each.flatMap((range) => [
      one(`names, ${range}`, () => names(range)),
      ...["", BUSY, RARE].flatMap((event) => [
        one(`trend of ${of(event)}, ${range}`, () => trend(range, event)),
        ...["plan", "visit"].map((by) =>
          one(`breakdown of ${of(event)} by ${by}, ${range}`, () => trend(range, event, by)),
        ),
        one(`events of ${of(event)}, ${range}`, () => newest(range, event)),
        one(`properties of ${of(event)}, ${range}`, () => properties(range, event)),
      ]),
      one(`timeline of an id, ${range}`, () => timeline(range, someone())),
      one(`timeline of a person, ${range}`, () => timeline(range, somebody())),
      one(`timeline of a crawler, ${range}`, () => timeline(range, { distinctId: BOT })),
      one(`metric by host, ${range}`, () => series(range, someMetric())),
      one(`values of events by host, ${range}`, () => series(range, BUSY)),
    ]),
    one("names by a part, 30d", () => ask("ListEventNames", { ...rangeOf("30d"), contains: "_1", limit: 500 })),
    one("people lately", peopleLately),
    one("people by a part", () => ask("ListPeople", { contains: someone().distinctId, limit: 200 })),
    one("people by what nobody has", () => ask("ListPeople", { contains: crypto.randomUUID(), limit: 200 })),
    one("person by id", () => ask("GetPerson", someone())),
    one("person", () => ask("GetPerson", somebody())),
    one("dead letters", () => ask("ListDeadLetters", { pageSize: MANY })),
    one("dead letters, older", () => ask("ListDeadLetters", { pageSize: MANY, pageToken: olderThan })),
    one("dead letters of a class", () => ask("ListDeadLetters", { errorClass: LETTER_CLASSES[0], pageSize: MANY })),
    one("replay, dry run", () => {
      return { method: "DeadLetterService/Replay", body: { positions: positions(), dryRun: true } };
    }),
    one("metrics", metrics),
    one("alerts", alerts),
    one("history of alerts", changes),
    one("status", status),
    one("where, stored", () => where([someEvent()])),
    one("where, never seen", () => where([crypto.randomUUID()])),
    one("where, at a position", () => where([positionOf(below(events))])),
    one("where, at a repeat's position", () => where([positionOf(events + below(repeats))])),
    one("where, at a letter's position", () => where([positionOf(lettersFrom + below(letters))])),
    one(`where, ${MANY} stored`, () => many(MANY, someEvent)),
    one(`where, ${MANY} never seen`, () => many(MANY, () => crypto.randomUUID())),
    one(`where, ${MOST} stored`, () => many(MOST, someEvent)),
    { name: "view Overview", calls: () => [status(), trend("1h"), names("24h", 8)] },
    ...each.map((range) => ({
      name: `view Events, ${range}`,
      calls: () => [names(range), trend(range), properties(range, ""), newest(range, "")],
    })),
    { name: "view People", calls: () => [peopleLately(), ask("GetPerson", someone()), timeline("30d", someone())] },
    { name: "view Hosts, 24h", calls: () => [metrics(), alerts(), changes(), series("24h", someMetric())] },
  ];
}

function rangeOf(range: RangeName) {
  const now = Date.now();
  return { range: { from: new Date(now - RANGES[range] * HOUR_MS).toISOString(), to: new Date(now).toISOString() } };
}
