// The edges that decide about a few ids: everything that can be reached from them, and no more. Bounded in the ids it
// looks at; what may be missed beyond that is in docs/identity.md.
import type { Edge } from "./facts.ts";
import { compareEdges, isStrong, resolveIds } from "./resolve.ts";

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

/** An edge's two ids: who says it, and of whom; the second is "" for an identify that names nobody. */
export type Link = readonly [id: string, other: string];

/**
 * Resolves the ids that edges from or to `seeds` may have changed, and writes them, the unchanged too: a slower writer that
 * saw fewer edges must find a higher version. Whoever stored an edge calls this after it, so that of several writers at
 * least the one that stored the last edge sees all of them. `links` are the edges that are new, if that is known: what
 * none of them can have changed is then left alone.
 */
export async function updatePeople(
  seeds: Iterable<string>,
  store: PeopleStore,
  idsMax: number,
  links?: readonly Link[],
): Promise<Pick<Closure, "ids" | "isCut"> & { written: number }> {
  // Before the first look at the edges: what comes in between counts for the next version.
  const version = await store.version();
  const closure = await closureOf(seeds, store, idsMax);
  const { edges, ids, isCut } = closure;
  const canonical = resolveIds(edges);
  const changed = (links && changedBy(links, closure)) ?? ids;
  await store.write(new Map([...changed].map((id) => [id, canonical.get(id) ?? id])), version);
  return { ids, isCut, written: changed.size };
}

/**
 * Ids whose person an edge of `links` may have changed, by structure alone, whatever the other edges decide: of two writers
 * that each saw only one of two edges on the way to an id, the later one then writes it. Undefined: all of them.
 *
 * An edge decides whose `other` is, and so whose everything below it is. An identify also says that `id` belongs to nobody;
 * of several the first by content answers for that. Joins of known people change what is above as well.
 */
function changedBy(links: readonly Link[], { edges, ids, isCut }: Closure): Set<string> | undefined {
  if (isCut || edges.some(isStrong)) return undefined;
  const below = new Map<string, string[]>();
  const firstIdentify = new Map<string, Edge>();
  const known = new Map<string, Edge[]>();
  for (const edge of edges) {
    push(below, edge.id, edge.other);
    push(known, nameOf([edge.id, edge.other]), edge);
    const first = firstIdentify.get(edge.id);
    if (edge.kind === "identify" && (!first || compareEdges(edge, first) < 0)) firstIdentify.set(edge.id, edge);
  }
  const changed = new Set<string>();
  const frontier: string[] = [];
  for (const link of links) {
    const found = known.get(nameOf(link));
    // Of an id that very many edges name, not all are here.
    if (!found) return undefined;
    changed.add(link[0]);
    if (link[1] !== "") frontier.push(link[1]);
    const first = firstIdentify.get(link[0]);
    if (first && found.some((edge) => compareEdges(edge, first) === 0)) frontier.push(link[0]);
  }
  const descended = new Set<string>();
  for (let id = frontier.pop(); id !== undefined; id = frontier.pop()) {
    if (descended.has(id)) continue;
    descended.add(id);
    if (ids.has(id)) changed.add(id);
    for (const other of below.get(id) ?? []) if (other !== "") frontier.push(other);
  }
  return changed;
}

function nameOf(link: Link): string {
  return JSON.stringify(link);
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}
