import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Edge, EdgeKind, PropertyFact } from "./facts.ts";
import { peopleOf } from "./people.ts";
import { propertyOf, stateOf } from "./properties.ts";
import { identifiedIds, isStrong, resolveIds } from "./resolve.ts";

const eventId = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
let count = 0;
function edge(kind: EdgeKind, id: string, other = "", { trusted = kind === "merge", at = ++count } = {}): Edge {
  return { kind, id, other, trusted, timeUs: at, eventId: eventId(at) };
}

/** Members by canonical id, for reading. */
function groups(...edges: Edge[]): Record<string, string> {
  const found = new Map<string, string[]>();
  for (const [id, canonical] of resolveIds(edges)) found.set(canonical, [...(found.get(canonical) ?? []), id].sort());
  return Object.fromEntries([...found].sort().map(([canonical, ids]) => [canonical, ids.join(" ")]));
}

describe("$identify", () => {
  it("gives an anonymous id to the user, whose id is the person's", () => {
    expect(groups(edge("identify", "u", "a"))).toEqual({ u: "a u" });
  });

  it("gives it to the earliest of several users, in whatever order they come", () => {
    const [first, second] = [edge("identify", "u1", "a"), edge("identify", "u2", "a")];
    expect(groups(second, first)).toEqual({ u1: "a u1", u2: "u2" });
  });

  it("gives a user many anonymous ids", () => {
    expect(groups(edge("identify", "u", "a"), edge("identify", "u", "b"))).toEqual({ u: "a b u" });
  });

  it("does not join a user to another who is identified later, nor earlier", () => {
    expect(groups(edge("identify", "u1"), edge("identify", "u2", "u1"))).toEqual({ u1: "u1", u2: "u2" });
    expect(groups(edge("identify", "u2", "u1"), edge("identify", "u1"))).toEqual({ u1: "u1", u2: "u2" });
  });

  it("decides between equal times by the event's id", () => {
    const [a, b] = [edge("identify", "u1", "a", { at: 7 }), edge("identify", "u2", "a", { at: 7 })];
    expect(groups({ ...a, eventId: eventId(2) }, { ...b, eventId: eventId(1) })).toEqual({ u1: "u1", u2: "a u2" });
  });
});

describe("an alias from a public key", () => {
  it("joins an id that was never identified", () => {
    expect(groups(edge("alias", "d", "x"))).toEqual({ d: "d x" });
  });

  it("takes nobody's history: of an identified id it is ignored, whichever came first", () => {
    const takeover = edge("alias", "thief", "victim");
    expect(groups(takeover, edge("identify", "victim", "a"))).toEqual({ thief: "thief", victim: "a victim" });
    expect(groups(edge("identify", "victim", "a"), edge("alias", "thief", "victim"))).toEqual({
      thief: "thief",
      victim: "a victim",
    });
  });

  it("does not take an anonymous id that belongs to somebody already", () => {
    expect(groups(edge("identify", "u", "a"), edge("alias", "thief", "a"))).toEqual({ u: "a u", thief: "thief" });
  });

  it("is followed from id to id", () => {
    expect(groups(edge("alias", "a", "b"), edge("alias", "b", "c"))).toEqual({ a: "a b c" });
  });

  it("in a circle makes one person, under the id whose joining was the last", () => {
    const circle = [edge("alias", "a", "b"), edge("alias", "b", "c"), edge("alias", "c", "a")];
    expect(groups(...circle)).toEqual({ a: "a b c" });
    expect(groups(...circle.toReversed(), edge("alias", "b", "z"))).toEqual({ a: "a b c z" });
  });
});

describe("a trusted alias or merge", () => {
  const trusted = { trusted: true };

  it("joins two known people under the id that absorbs", () => {
    const people = [edge("identify", "u1", "a1"), edge("identify", "u2", "a2")];
    expect(groups(...people, edge("merge", "u1", "u2"))).toEqual({ u1: "a1 a2 u1 u2" });
    expect(groups(...people, edge("alias", "u2", "u1", trusted))).toEqual({ u2: "a1 a2 u1 u2" });
    expect(groups(...people, edge("merge", "a1", "a2"))).toEqual({ u1: "a1 a2 u1 u2" });
  });

  it("of a chain keeps the one that nobody absorbed", () => {
    expect(groups(edge("merge", "b", "c"), edge("merge", "a", "b"))).toEqual({ a: "a b c" });
  });

  it("keeps the earliest that absorbs, of several that nobody absorbed", () => {
    expect(groups(edge("merge", "a", "x"), edge("merge", "b", "x"))).toEqual({ a: "a b x" });
    expect(groups(edge("merge", "b", "c"), edge("merge", "d", "c"), edge("merge", "a", "b"))).toEqual({ d: "a b c d" });
  });

  it("in a circle keeps the earliest that absorbs", () => {
    expect(groups(edge("merge", "a", "b"), edge("merge", "b", "a"))).toEqual({ a: "a b" });
  });

  it("within one person changes nothing", () => {
    expect(groups(edge("identify", "u", "a"), edge("merge", "a", "u"))).toEqual({ u: "a u" });
  });

  it.each([
    ["into one", (n: number) => ["m0", `m${n}`]],
    ["in a chain", (n: number) => [`m${n - 1}`, `m${n}`]],
  ])("makes one person of a thousand ids merged %s", (_how, ids) => {
    const edges = Array.from({ length: 1000 }, (_, n) => {
      const [id, other] = ids(n + 1) as [string, string];
      return edge("merge", id, other);
    });
    const canonical = resolveIds(edges.toReversed());
    expect(canonical.size).toBe(1001);
    expect(new Set(canonical.values())).toEqual(new Set(["m0"]));
  });
});

const name = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h");
const anyEdge = fc
  .record({
    kind: fc.constantFrom<EdgeKind>("identify", "identify", "alias", "merge"),
    id: name,
    other: fc.oneof(name, fc.constant("")),
    isTrusted: fc.boolean(),
    timeUs: fc.nat(5),
    event: fc.nat(9),
  })
  .filter(({ kind, other }) => kind === "identify" || other !== "")
  .map(
    ({ kind, id, other, isTrusted, timeUs, event }): Edge => ({
      kind,
      id,
      other: other === id ? "" : other,
      trusted: isTrusted || kind === "merge",
      timeUs,
      eventId: eventId(event),
    }),
  )
  .filter(({ kind, other }) => kind === "identify" || other !== "");
const anyFact = fc.record({
  distinctId: name,
  key: fc.constantFrom("k", "l", ""),
  operation: fc.constantFrom("set" as const, "set_once" as const, "unset" as const),
  value: fc.constantFrom("1", '"é"', '"\u{1F600}"', '"\uFFFD"', "null"),
  timeUs: fc.nat(5),
  eventId: fc.nat(3).map(eventId),
});

describe("for any set of facts", () => {
  it("the people are the same in any order and however often a fact comes", () => {
    const shuffled = fc
      .tuple(fc.array(anyEdge, { maxLength: 20 }), fc.array(anyFact, { maxLength: 20 }))
      .chain(([edges, properties]) => {
        const facts = [
          ...edges.map((one) => ({ edge: one, properties: [], isRefused: false })),
          ...properties.map((one) => ({ edge: undefined, properties: [one], isRefused: false })),
        ];
        const again = fc
          .subarray(facts)
          .chain((some) => fc.shuffledSubarray([...facts, ...some], { minLength: facts.length + some.length }));
        return fc.tuple(fc.constant(facts), again);
      });
    fc.assert(
      fc.property(shuffled, ([facts, again]) => {
        const sorted = (people: ReturnType<typeof peopleOf>) => [...people].sort(([a], [b]) => (a < b ? -1 : 1));
        expect(sorted(peopleOf(again))).toEqual(sorted(peopleOf(facts)));
      }),
      { numRuns: 1000 },
    );
  });

  it("without trusted edges no two identified ids are one person", () => {
    fc.assert(
      fc.property(fc.array(anyEdge, { maxLength: 30 }), (edges) => {
        const weak = edges.filter((one) => !isStrong(one));
        const canonical = resolveIds(weak);
        const identified = [...identifiedIds(weak)];
        expect(new Set(identified.map((id) => canonical.get(id))).size).toBe(identified.length);
      }),
      { numRuns: 1000 },
    );
  });

  it("a canonical id is its own, and the identified one where there is one", () => {
    fc.assert(
      fc.property(fc.array(anyEdge, { maxLength: 30 }), (edges) => {
        const weak = edges.filter((one) => !isStrong(one));
        for (const all of [edges, weak]) {
          const canonical = resolveIds(all);
          for (const id of canonical.values()) expect(canonical.get(id)).toBe(id);
        }
        const canonical = resolveIds(weak);
        for (const id of identifiedIds(weak)) expect(canonical.get(id)).toBe(id);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("a property", () => {
  const fact = (operation: PropertyFact["operation"], at: number, value = String(at)): PropertyFact => ({
    distinctId: "u",
    key: "k",
    operation,
    value: operation === "unset" ? "" : value,
    timeUs: at,
    eventId: eventId(at),
  });
  const shown = (...facts: PropertyFact[]) => propertyOf(stateOf(facts));

  it("is what was set last, whatever came in first", () => {
    expect(shown(fact("set", 2), fact("set", 1))).toBe("2");
  });

  it("is what was set once first, unless it was set", () => {
    expect(shown(fact("set_once", 2), fact("set_once", 1))).toBe("1");
    expect(shown(fact("set_once", 1), fact("set", 2))).toBe("2");
    expect(shown(fact("set", 1), fact("set_once", 2))).toBe("1");
  });

  it("is gone after an unset, until it is set again", () => {
    expect(shown(fact("set", 1), fact("unset", 2))).toBeUndefined();
    expect(shown(fact("set_once", 1), fact("unset", 2))).toBeUndefined();
    expect(shown(fact("unset", 2), fact("set", 3))).toBe("3");
    expect(shown(fact("set", 1), fact("unset", 2), fact("set_once", 3))).toBe("3");
  });

  it("that one event sets and unsets is unset, and that it sets and sets once is set", () => {
    expect(shown(fact("set", 1), fact("unset", 1))).toBeUndefined();
    expect(shown(fact("set_once", 1), fact("unset", 1))).toBeUndefined();
    expect(shown(fact("set_once", 1, "0"), fact("set", 1))).toBe("1");
  });
});
