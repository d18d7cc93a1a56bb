// All people that a set of facts makes, in memory: what the tables and views must show, and what tests hold them to.
import { personIdOf } from "#lib/events/ids.ts";
import { compareTexts, type IdentityFacts, type PropertyFact } from "./facts.ts";
import { propertyOf, stateOf } from "./properties.ts";
import { identifiedIds, resolveIds } from "./resolve.ts";

export interface Person {
  id: string;
  distinctIds: string[];
  isIdentified: boolean;
  /** JSON text by key, in the order of the keys. */
  properties: Map<string, string>;
}

/** By person id, everybody whom facts name, and `seen` distinct ids besides; ids within a person in order. */
export function peopleOf(facts: readonly IdentityFacts[], seen: readonly string[] = []): Map<string, Person> {
  const distinctIds = new Map<string, string>();
  const key = (distinctId: string) => {
    if (distinctId === "") return "";
    const id = personIdOf(distinctId);
    distinctIds.set(id, distinctId);
    return id;
  };
  for (const distinctId of seen) key(distinctId);
  const edges = facts.map(({ edge }) => edge).filter((edge) => edge !== undefined);
  const keyed = edges.map((edge) => ({ ...edge, id: key(edge.id), other: key(edge.other) }));
  const canonical = resolveIds(keyed);
  const identified = identifiedIds(keyed);
  const operations = new Map<string, Map<string, PropertyFact[]>>();
  for (const fact of facts.flatMap(({ properties }) => properties)) {
    const own = key(fact.distinctId);
    const person = canonical.get(own) ?? own;
    const ofPerson = operations.get(person) ?? new Map<string, PropertyFact[]>();
    operations.set(person, ofPerson);
    const ofKey = ofPerson.get(fact.key);
    if (ofKey) ofKey.push(fact);
    else ofPerson.set(fact.key, [fact]);
  }
  const people = new Map<string, Person>();
  for (const [own, distinctId] of distinctIds) {
    const id = canonical.get(own) ?? own;
    const person: Person = people.get(id) ?? { id, distinctIds: [], isIdentified: false, properties: new Map() };
    person.distinctIds.push(distinctId);
    person.isIdentified ||= identified.has(own);
    people.set(id, person);
  }
  for (const person of people.values()) {
    person.distinctIds.sort();
    const ofPerson = operations.get(person.id) ?? new Map<string, PropertyFact[]>();
    for (const [name, states] of [...ofPerson].sort(([a], [b]) => compareTexts(a, b))) {
      const value = propertyOf(stateOf(states));
      if (value !== undefined) person.properties.set(name, value);
    }
  }
  return people;
}
