// What the console's views ask, one question each, as the page sends them: for every range it offers, for all names, the
// most frequent one and a rare one.
import { distinctIdOf, idOf } from "./console-data.ts";

export interface Question {
  name: string;
  method: string;
  body(): object;
}

const HOUR_MS = 3_600_000;
const RANGES = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 } as const;
const QUERIES = "EventQueryService/";
const BUSY = "event_0";
const RARE = "event_30";

export function questionsOf({ events, people }: { events: number; people: number }): Question[] {
  const someone = () => ({ distinctId: distinctIdOf(Math.floor(Math.random() * people)) });
  const someEvent = () => idOf(Math.floor(Math.random() * events));
  return [
    ...Object.entries(RANGES).flatMap(([name, hours]) => ofRange(name, hours, someone)),
    {
      name: "names by a part, 30d",
      method: `${QUERIES}ListEventNames`,
      body: () => ({ ...range(720), contains: "_1" }),
    },
    { name: "people lately", method: `${QUERIES}ListPeople`, body: () => ({ limit: 200 }) },
    {
      name: "people by a part",
      method: `${QUERIES}ListPeople`,
      body: () => ({ contains: someone().distinctId, limit: 200 }),
    },
    { name: "person", method: `${QUERIES}GetPerson`, body: someone },
    { name: "dead letters", method: `${QUERIES}ListDeadLetters`, body: () => ({ pageSize: 100 }) },
    { name: "status", method: "StatusService/GetStatus", body: () => ({}) },
    { name: "where, stored", method: "ReceiptService/Where", body: () => ({ ids: [someEvent()] }) },
    { name: "where, never seen", method: "ReceiptService/Where", body: () => ({ ids: [crypto.randomUUID()] }) },
  ];
}

function ofRange(name: string, hours: number, someone: () => object): Question[] {
  const days = Math.max(1, hours / 24);
  const of = (event: string) => (event === "" ? "all" : event === BUSY ? "a busy name" : "a rare name");
  return [
    { name: `names, ${name}`, method: `${QUERIES}ListEventNames`, body: () => ({ ...range(hours), limit: 500 }) },
    ...["", BUSY, RARE].flatMap((event) => [
      {
        name: `trend of ${of(event)}, ${name}`,
        method: `${QUERIES}QueryTrend`,
        body: () => ({ ...range(hours), event }),
      },
      {
        name: `events of ${of(event)}, ${name}`,
        method: `${QUERIES}ListEvents`,
        body: () => ({ ...range(hours), event, pageSize: 200 }),
      },
      {
        // Of all names the page asks for a day.
        name: `properties of ${of(event)}, ${name}`,
        method: `${QUERIES}ListProperties`,
        body: () => ({ days: event === "" ? 1 : days, event, limit: 200 }),
      },
    ]),
    ...["", BUSY, RARE].flatMap((event) =>
      ["plan", "visit"].map((breakdown) => ({
        name: `breakdown of ${of(event)} by ${breakdown}, ${name}`,
        method: `${QUERIES}QueryTrend`,
        body: () => ({ ...range(hours), event, breakdown }),
      })),
    ),
    {
      name: `timeline, ${name}`,
      method: `${QUERIES}ListEvents`,
      body: () => ({ ...range(hours), ...someone(), pageSize: 200 }),
    },
  ];
}

function range(hours: number) {
  const now = Date.now();
  return { range: { from: new Date(now - hours * HOUR_MS).toISOString(), to: new Date(now).toISOString() } };
}
