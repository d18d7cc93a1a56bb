import { describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { API_KEYS, type LoadEvent } from "./event-source.ts";
import { type Belonging, comparePeople, type Profile, type ShownPeople, type Testimony } from "./people.ts";

const IDENTITY = ["$identify", "$set", "$create_alias", "$merge_dangerously"];

function event(n: number, event: string, distinctId: string, properties: Record<string, unknown> = {}): LoadEvent {
  const id = `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
  const apiKey = properties.isPublic ? API_KEYS.public : API_KEYS.secret;
  return { id, event, distinctId, properties, apiKey, timeMs: 1_000 + n, source: "", value: undefined };
}

/** Two users of one browser, the second merged with a third account; a guest; somebody whose only property was unset. */
const EVENTS = [
  event(1, "page_view", "browser"),
  event(2, "$identify", "ann", { $anon_distinct_id: "browser", $set: { plan: "pro", city: "Graz" } }),
  event(3, "$identify", "bob", { $anon_distinct_id: "browser", $set: { plan: "free" } }),
  event(4, "$merge_dangerously", "bob", { alias: "rob" }),
  event(5, "$merge_dangerously", "ann", { alias: "bob", isPublic: true }),
  event(6, "page_view", "guest"),
  event(7, "$set", "eve", { $unset: ["plan"] }),
];

function testimony(events = EVENTS): Testimony {
  return {
    told: events.filter(({ event }) => IDENTITY.includes(event)),
    distinctIds: new Set(events.map(({ distinctId }) => distinctId)),
  };
}

const [ann, bob, guest, eve] = ["ann", "bob", "guest", "eve"].map(personIdOf) as [string, string, string, string];

/** As the views should show them. */
function shownRight(): { mapped: Belonging[]; inEvents: Belonging[]; profiles: Profile[] } {
  const inEvents = [
    { person: ann, distinctId: "browser" },
    { person: ann, distinctId: "ann" },
    { person: bob, distinctId: "bob" },
    { person: guest, distinctId: "guest" },
    { person: eve, distinctId: "eve" },
  ];
  return {
    inEvents,
    mapped: [...inEvents, { person: bob, distinctId: "rob" }],
    profiles: [
      profile("ann", { city: '"Graz"', plan: '"pro"' }),
      profile("bob", { plan: '"free"' }),
      { ...profile("eve", {}), isIdentified: false },
    ],
  };
}

function profile(distinctId: string, properties: Record<string, string>): Profile {
  const id = personIdOf(distinctId);
  return { id, distinctId, isIdentified: true, properties: new Map(Object.entries(properties)) };
}

/** A person a line, beginning with the person's id. */
function wrong(shown: ShownPeople): string[] {
  return comparePeople(testimony(), shown).wrong;
}

describe("comparePeople", () => {
  it("finds nothing where ids, events and profiles are as the events say", () => {
    expect(comparePeople(testimony(), shownRight())).toEqual({ people: 4, wrong: [] });
  });

  it("finds an id that is under the wrong person, in person_distinct_ids or in events alone", () => {
    for (const view of ["mapped", "inEvents"] as const) {
      const shown = shownRight();
      shown[view] = shown[view].map((one) => (one.distinctId === "browser" ? { ...one, person: bob } : one));
      expect(wrong(shown)).toEqual([
        expect.stringMatching(`^${ann}.*${view === "mapped" ? "person_distinct_ids" : "events"} it has ann$`),
        expect.stringMatching(`^${bob}.*browser`),
      ]);
    }
  });

  it("finds events of one id that are of two people", () => {
    const shown = shownRight();
    shown.inEvents.push({ person: personIdOf("browser"), distinctId: "browser" });
    expect(wrong(shown)).toEqual([
      expect.stringMatching(`^${personIdOf("browser")} \\(nobody\\): in events it has browser`),
    ]);
  });

  it("finds a property that is missing, one too many, and one with another value", () => {
    for (const properties of [
      { plan: '"pro"' },
      { city: '"Graz"', plan: '"pro"', x: "1" },
      { city: '"Linz"', plan: '"pro"' },
    ]) {
      const shown = shownRight();
      shown.profiles[0] = profile("ann", properties);
      expect(wrong(shown)).toEqual([expect.stringMatching(`^${ann} .*properties are`)]);
    }
  });

  it("finds two people who were merged although nobody said so who may", () => {
    const shown = shownRight();
    const merge = <Row extends Belonging>(rows: Row[]) =>
      rows.map((row) => (row.person === bob ? { ...row, person: ann } : row));
    shown.mapped = merge(shown.mapped);
    shown.inEvents = merge(shown.inEvents);
    shown.profiles.splice(1, 1);
    expect(wrong(shown)).toEqual([
      expect.stringMatching(`^${ann}.*bob, browser, rob`),
      expect.stringMatching(`^${bob}.*no ids`),
    ]);
  });

  it("finds a merge that was not made", () => {
    const shown = shownRight();
    shown.mapped = shown.mapped.map((one) => (one.distinctId === "rob" ? { ...one, person: personIdOf("rob") } : one));
    expect(wrong(shown)).toHaveLength(2);
  });

  it("finds is_identified wrong, a wrong name, and a profile missing, twice or too many", () => {
    const faults: [(profiles: Profile[]) => void, RegExp][] = [
      [
        (profiles) => void profiles.splice(0, 1, { ...(profiles[0] as Profile), isIdentified: false }),
        /is_identified is false/,
      ],
      [
        (profiles) => void profiles.splice(0, 1, { ...(profiles[0] as Profile), distinctId: "browser" }),
        /named after browser/,
      ],
      [(profiles) => void profiles.shift(), /has 0 rows in persons/],
      [(profiles) => void profiles.push(profiles[0] as Profile), /has 2 rows in persons/],
      [(profiles) => void profiles.push(profile("guest", {})), /should have none/],
    ];
    for (const [spoil, text] of faults) {
      const shown = shownRight();
      spoil(shown.profiles);
      expect(wrong(shown)).toEqual([expect.stringMatching(text)]);
    }
  });

  it("finds a distinct id that no table knows", () => {
    const shown = shownRight();
    shown.mapped = shown.mapped.filter(({ person }) => person !== guest);
    expect(wrong(shown)).toEqual([expect.stringMatching(`^${guest} .*person_distinct_ids it has no ids`)]);
  });
});
