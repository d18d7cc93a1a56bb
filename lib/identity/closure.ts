// The edges that decide about a few ids: everything that can be reached from them, and no more. Bounded in the ids it
// looks at; what may be missed beyond that is in docs/identity.md.
import type { Edge } from "./facts.ts";
import { resolveIds } from "./resolve.ts";

export interface EdgeSource {
  /** Edges that name one of `ids` on either side; of an id that very many name, the first ones. */
  edgesOf(ids: readonly string[]): Promise<Edge[]>;
  /** Ids that were one person with one of `ids` when last resolved. Guesses: they only make the walk shorter. */
  relativesOf(ids: readonly string[]): Promise<string[]>;
}

export interface PeopleStore extends EdgeSource {
  /** Number of edges stored so far: it never falls, and two readers with the same number see the same edges. */
  version(): Promise<number>;
  /** Person of each id. Of two writes about one id the one with the higher version counts, whichever comes last. */
  write(people: ReadonlyMap<string, string>, version: number): Promise<void>;
}

export interface Closure {
  edges: Edge[];
  /** Ids whose edges are all in `edges`. */
  ids: Set<string>;
  /** There was more than `idsMax`. */
  isCut: boolean;
}

/** A long chain of ids is one step of the walk each; after so many steps, relatives are asked for. */
const STEPS_ALONE = 6;

/** Walks from `seeds` along edges in both directions until there is nothing new, or `idsMax` ids were looked at. */
export async function closureOf(seeds: Iterable<string>, source: EdgeSource, idsMax: number): Promise<Closure> {
  const closure: Closure = { edges: [], ids: new Set(), isCut: false };
  let frontier = [...new Set(seeds)].filter((id) => id !== "");
  for (let step = 1; frontier.length > 0; step++) {
    const room = idsMax - closure.ids.size;
    if (frontier.length > room) {
      closure.isCut = true;
      frontier = frontier.slice(0, room);
      if (room === 0) break;
    }
    for (const id of frontier) closure.ids.add(id);
    const next = new Set<string>();
    const reach = (id: string) => {
      if (id !== "" && !closure.ids.has(id)) next.add(id);
    };
    for (const edge of await source.edgesOf(frontier)) {
      // An edge within the frontier, or back into it, comes twice, which changes nothing.
      closure.edges.push(edge);
      reach(edge.id);
      reach(edge.other);
    }
    if (next.size > 0 && step % STEPS_ALONE === 0) for (const id of await source.relativesOf([...next])) reach(id);
    frontier = [...next];
  }
  return closure;
}

/**
 * Resolves the ids that edges from or to `seeds` may have changed, and writes all of them, the unchanged too: a slower
 * writer that saw fewer edges must find a higher version. The process that stored an edge calls this after it, so that of several
 * writers at least the one that stored the last edge sees all of them.
 */
export async function updatePeople(
  seeds: Iterable<string>,
  store: PeopleStore,
  idsMax: number,
): Promise<Pick<Closure, "ids" | "isCut">> {
  // Before the first look at the edges: what comes in between counts for the next version.
  const version = await store.version();
  const { edges, ids, isCut } = await closureOf(seeds, store, idsMax);
  const canonical = resolveIds(edges);
  await store.write(new Map([...ids].map((id) => [id, canonical.get(id) ?? id])), version);
  return { ids, isCut };
}
