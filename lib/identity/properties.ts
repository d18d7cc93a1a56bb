// State of one property of one id, or of a person: bounded, whatever the number of operations, and a function of their
// set. The tables keep the same two extremes, and the view `persons` reads them as `propertyOf` does.
import { compareMoments, type PropertyFact } from "./facts.ts";

export interface PropertyState {
  /** The last set or unset. */
  latest: PropertyFact | undefined;
  /** The first set_once. */
  first: PropertyFact | undefined;
}

export function stateOf(facts: Iterable<PropertyFact>): PropertyState {
  const state: PropertyState = { latest: undefined, first: undefined };
  for (const fact of facts) {
    if (fact.operation === "set_once") {
      if (!state.first || compareFirsts(fact, state.first) < 0) state.first = fact;
    } else if (!state.latest || compareLatest(fact, state.latest) > 0) {
      state.latest = fact;
    }
  }
  return state;
}

/** JSON text of the value; undefined when there is none. */
export function propertyOf({ latest, first }: PropertyState): string | undefined {
  if (latest?.operation === "set") return latest.value;
  if (!first || (latest && compareMoments(first, latest) <= 0)) return undefined;
  return first.value;
}

function compareFirsts(a: PropertyFact, b: PropertyFact): number {
  return compareMoments(a, b) || compareBytes(a.value, b.value);
}

/** Of one event that sets and unsets a key, the unset counts. */
function compareLatest(a: PropertyFact, b: PropertyFact): number {
  return (
    compareMoments(a, b) ||
    Number(a.operation === "unset") - Number(b.operation === "unset") ||
    compareBytes(a.value, b.value)
  );
}

/** As ClickHouse compares strings; only two events with one id and one time come this far. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
