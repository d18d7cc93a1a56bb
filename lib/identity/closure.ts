// The edges that decide about a few ids: everything that can be reached from them, and no more. Bounded in the ids it
// looks at: a component that has more is frozen (docs/identity.md).
import type { Edge } from "./facts.ts";
import { compareEdges, isStrong, resolveIds } from "./resolve.ts";

export interface EdgeSource {
  /** Edges that name one of `ids` on either side; of an id that very many name, the first ones. */
  edgesOf(ids: readonly string[]): Promise<Edge[]>;
  /** Ids that were one person with one of `ids` when last resolved. Guesses: they only make the walk shorter. */
  relativesOf(ids: readonly string[]): Promise<string[]>;
  /** Of `ids` those of frozen components, each with the person that it keeps. Left out: no component is frozen. */
  frozenOf?(ids: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

/** Version of a person that stays as it is. Numbers of edges never get there. */
export const FROZEN_VERSION = Number.MAX_SAFE_INTEGER;

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
  /** Ids of frozen components that edges name, with their persons. No edge of `edges` says anything of one of them. */
  frozen: Map<string, string>;
  /** There was more than `idsMax`. */
  isCut: boolean;
}

/** A long chain of ids is one step of the walk each; after so many steps, relatives are asked for. */
const STEPS_ALONE = 6;

/** Walks from `seeds` along edges in both directions until there is nothing new, or `idsMax` ids were looked at. */
export async function closureOf(seeds: Iterable<string>, source: EdgeSource, idsMax: number): Promise<Closure> {
  const closure: Closure = { edges: [], ids: new Set(), frozen: new Map(), isCut: false };
  let frontier = [...new Set(seeds)].filter((id) => id !== "");
  for (let step = 1; frontier.length > 0; step++) {
    for (const [id, person] of (await source.frozenOf?.(frontier)) ?? []) closure.frozen.set(id, person);
    frontier = frontier.filter((id) => !closure.frozen.has(id));
    const room = idsMax - closure.ids.size;
    if (frontier.length > room) {
      closure.isCut = true;
      frontier = frontier.slice(0, room);
    }
    if (frontier.length === 0) break;
    for (const id of frontier) closure.ids.add(id);
    const next = new Set<string>();
    const reach = (id: string) => {
      if (id !== "" && !closure.ids.has(id) && !closure.frozen.has(id)) next.add(id);
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
  if (closure.frozen.size > 0) closure.edges = closure.edges.filter(({ other }) => !closure.frozen.has(other));
  return closure;
}

/** An edge's two ids: who says it, and of whom; the second is "" for an identify that names nobody. */
export type Link = readonly [id: string, other: string];

/**
 * Resolves the ids that edges from or to `seeds` may have changed, and writes them, the unchanged too: a slower writer that
 * saw fewer edges must find a higher version. The writer of an edge calls this after it, so that of several writers at
 * least the one that stored the last edge sees all of them.
 */
export async function updatePeople(
  seeds: Iterable<string>,
  store: PeopleStore,
  idsMax: number,
): Promise<Pick<Closure, "ids" | "isCut">> {
  // Before the first look at the edges: what comes in between counts for the next version.
  const version = await store.version();
  const closure = await closureOf(seeds, store, idsMax);
  await store.write(peopleOf(closure, closure.ids), version);
  return closure;
}

export interface Followed {
  /** Rows written. */
  written: number;
  /** Components that were frozen: by how many ids, and the link that was one too many. */
  frozen: { ids: number; link: Link }[];
}

/**
 * The same for edges that are new, and known: what none of them can have changed is left alone. Where they lead to more than
 * `idsMax` ids, they are followed apart, so that no person depends on what happened to come at the same time. A single one
 * that still does is of a component that has grown beyond reason: its ids keep their person from then on, and links of
 * theirs are not walked again.
 */
export async function followLinks(links: readonly Link[], store: PeopleStore, idsMax: number): Promise<Followed> {
  const [link] = links;
  if (!link) return { written: 0, frozen: [] };
  const version = await store.version();
  const closure = await closureOf(links.flat(), store, idsMax);
  if (closure.isCut && links.length > 1) {
    const middle = links.length >> 1;
    const first = await followLinks(links.slice(0, middle), store, idsMax);
    const second = await followLinks(links.slice(middle), store, idsMax);
    return { written: first.written + second.written, frozen: [...first.frozen, ...second.frozen] };
  }
  const people = peopleOf(closure, changedBy(links, closure) ?? closure.ids);
  await store.write(people, closure.isCut ? FROZEN_VERSION : version);
  return { written: people.size, frozen: closure.isCut ? [{ ids: people.size, link }] : [] };
}

/** Persons of those of `some` that are not frozen. */
function peopleOf({ edges, ids, frozen }: Closure, some: ReadonlySet<string>): Map<string, string> {
  const canonical = resolveIds(edges);
  const people = new Map<string, string>();
  for (const id of some) {
    const person = canonical.get(id) ?? id;
    if (ids.has(id)) people.set(id, frozen.get(person) ?? person);
  }
  return people;
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
