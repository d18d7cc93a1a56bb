import { expect, it } from "vitest";
import { factsOf, type IdentityFacts } from "#lib/identity/facts.ts";
import { peopleOf } from "#lib/identity/people.ts";
import { createRandom } from "../test/kit/random.ts";
import { createIdentityTraffic, householdOf, type Said } from "./identity-traffic.ts";

const EVENTS = 60_000;

/** Every second event with a secret key; event times at random, as the load has them. */
function talk(seed: number): { said: Said[]; facts: IdentityFacts[] } {
  const traffic = createIdentityTraffic(createRandom(seed));
  const times = createRandom(seed + 1);
  const said: Said[] = [];
  const facts: IdentityFacts[] = [];
  for (let n = 0; n < EVENTS; n++) {
    const trusted = n % 2 === 0;
    const one = traffic.next(n, trusted);
    if (!one) continue;
    said.push(one);
    facts.push(factsOf({ ...one, trusted, timeUs: times.integer(1, 1_000_000), eventId: `event ${n}` }));
  }
  return { said, facts };
}

it("equal seeds say the same, others something else", () => {
  expect(talk(1).said).toEqual(talk(1).said);
  expect(talk(2).said).not.toEqual(talk(1).said);
});

it("one event in ten is about people or of them, and each kind of fact is there in number", () => {
  const { said, facts } = talk(3);
  expect(said.length / EVENTS).toBeGreaterThan(0.09);
  expect(said.length / EVENTS).toBeLessThan(0.11);
  const edges = facts.flatMap(({ edge }) => (edge ? [`${edge.kind} ${edge.trusted}`] : []));
  const operations = facts.flatMap(({ properties }) => properties.map(({ operation }) => operation));
  const counts = Object.groupBy(
    [...edges, ...operations, ...facts.flatMap(({ isRefused }) => (isRefused ? ["refused"] : []))],
    (kind) => kind,
  );
  const kinds = [
    "identify true",
    "identify false",
    "alias true",
    "alias false",
    "merge true",
    "set",
    "set_once",
    "unset",
    "refused",
  ];
  for (const kind of kinds) expect(counts[kind]?.length ?? 0, kind).toBeGreaterThan(100);
});

it("users who both logged in from one browser stay two people, merged users become one, and nobody beyond a household", () => {
  const { facts } = talk(4);
  const loggedIn = new Set(facts.map(({ edge }) => (edge?.kind === "identify" ? edge.id : "")));
  const personOf = new Map<string, string>();
  for (const { id, distinctIds } of peopleOf(facts).values()) {
    for (const distinctId of distinctIds) personOf.set(distinctId, id);
    expect(new Set(distinctIds.map((one) => one.split("_")[1])).size).toBe(1);
  }
  let shared = 0;
  let claimed = 0;
  let merged = 0;
  for (let number = 0; number < 100; number++) {
    const { users, browsers } = householdOf(number);
    const [a, b, c, d] = users.map((user) => personOf.get(user));
    if (c === d) merged++;
    expect(c).not.toBe(a);
    expect(c).not.toBe(b);
    if (loggedIn.has(users[0]) && loggedIn.has(users[1])) {
      expect(a).not.toBe(b);
      expect([a, b]).toContain(personOf.get(browsers[0]));
      shared++;
    } else if (a === b) {
      // By a public alias.
      claimed++;
    }
  }
  expect(shared).toBeGreaterThan(30);
  expect(claimed).toBeGreaterThan(10);
  expect(merged).toBeGreaterThan(50);
});
