import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { API_KEYS, createEventSource, type EventSource, type Parcel } from "./event-source.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

/** What is to be sent in `seconds`. */
function take(source: EventSource, seconds: number): Parcel[] {
  const parcels: Parcel[] = [];
  for (let ms = 0; ms < seconds * 1000; ms += 10) {
    vi.advanceTimersByTime(10);
    const parcel = source.next();
    if (parcel) parcels.push(parcel);
  }
  return parcels;
}

const keysOf = ({ events }: Parcel) => new Set(events.map(({ apiKey }) => apiKey));

it("one parcel in ten goes each other way than EventService, each under one key, at the rate that was asked for", () => {
  const parcels = take(createEventSource({ seed: 1, eventsPerSecond: 400 }), 30);
  const ways = Object.groupBy(parcels, ({ way }) => way);
  expect(parcels.length).toBeGreaterThan(590);
  expect(ways.batch?.length).toBe(Math.floor((parcels.length + 1) / 10));
  expect(ways.v1?.length).toBe(Math.floor((parcels.length + 3) / 10));
  expect(ways.segment?.length).toBe(Math.floor((parcels.length + 2) / 10));
  expect(ways.single?.length).toBe(Math.floor(parcels.length / 10));
  for (const parcel of parcels) {
    expect(keysOf(parcel).size).toBe(1);
    expect(parcel.events).toHaveLength(20);
  }
  const secret = parcels.filter((parcel) => keysOf(parcel).has(API_KEYS.secret)).length;
  expect(secret / parcels.length).toBeGreaterThan(0.4);
  expect(secret / parcels.length).toBeLessThan(0.6);
});

it("some acknowledged events come once more, as they were and under their key, until they are forgotten", () => {
  const source = createEventSource({ seed: 2, eventsPerSecond: 400 });
  const first = take(source, 60).flatMap(({ events }) => events);
  for (const event of first) source.noteAcked(event);
  const known = new Set(first);
  const parcels = take(source, 20);
  const repeats = parcels.filter(({ events }) => events.some((event) => known.has(event)));
  for (const parcel of repeats) {
    expect(parcel.events.every((event) => known.has(event))).toBe(true);
    expect(keysOf(parcel).size).toBe(1);
  }
  const again = repeats.flatMap(({ events }) => events);
  expect(again.length).toBe(source.repeats);
  expect(again.length).toBeGreaterThan(first.length / 1000);
  expect(new Set(again).size).toBe(again.length);
  expect(new Set(again.map(({ apiKey }) => apiKey)).size).toBe(2);
  source.forgetRepeats();
  expect(
    take(source, 30)
      .flatMap(({ events }) => events)
      .some((event) => known.has(event)),
  ).toBe(false);
});

it("messages of Segment have the ids that a gateway makes of theirs", () => {
  const parcels = take(createEventSource({ seed: 3, eventsPerSecond: 400 }), 10).filter(({ way }) => way === "segment");
  const events = parcels.flatMap((parcel) => parcel.events);
  expect(events.length).toBeGreaterThan(100);
  expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
  for (const { id, properties } of events) {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5/);
    expect(properties.messageId).not.toBe(id);
  }
});
