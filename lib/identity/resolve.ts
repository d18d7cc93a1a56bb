// Who is who, as a pure function of the set of edges: any order, any duplicates, any batches. docs/identity.md has the
// rules in words; the comments here say only why.
import { compareMoments, compareTexts, type Edge } from "./facts.ts";

/** Canonical id of every id that an edge names; an id that stands for itself is its own. */
export function resolveIds(edges: readonly Edge[]): Map<string, string> {
  const roots = rootsOf(edges);
  const survivors = survivorsOf(edges, roots);
  const canonical = new Map<string, string>();
  for (const [id, root] of roots) canonical.set(id, survivors.get(root) ?? root);
  return canonical;
}

/** Ids that were ever identified. */
export function identifiedIds(edges: readonly Edge[]): Set<string> {
  return new Set(edges.filter(({ kind }) => kind === "identify").map(({ id }) => id));
}

/** Of known people, by somebody who may. */
export function isStrong({ kind, trusted }: Edge): boolean {
  return kind === "merge" || (kind === "alias" && trusted);
}

/** By content, so that the order does not depend on how the edges came. */
export function compareEdges(a: Edge, b: Edge): number {
  return compareMoments(a, b) || compareTexts(a.other, b.other) || compareTexts(a.id, b.id);
}

/** Root of each id over the weak edges alone. */
function rootsOf(edges: readonly Edge[]): Map<string, string> {
  const parents = parentsOf(edges);
  const roots = new Map<string, string>();
  for (const { id, other } of edges) {
    findRoot(id, parents, roots);
    if (other !== "") findRoot(other, parents, roots);
  }
  return roots;
}

/** An id that was never identified belongs to the person who claimed it first; an identified one to nobody. */
function parentsOf(edges: readonly Edge[]): Map<string, Edge> {
  const identified = identifiedIds(edges);
  const parents = new Map<string, Edge>();
  for (const edge of edges) {
    const { id, other } = edge;
    if (isStrong(edge) || other === "" || other === id || identified.has(other)) continue;
    const first = parents.get(other);
    if (!first || compareEdges(edge, first) < 0) parents.set(other, edge);
  }
  return parents;
}

function findRoot(start: string, parents: ReadonlyMap<string, Edge>, roots: Map<string, string>): void {
  const path: string[] = [];
  const seen = new Set<string>();
  let at = start;
  let root: string | undefined;
  for (;;) {
    root = roots.get(at);
    if (root !== undefined) break;
    const parent = parents.get(at);
    if (parent === undefined) {
      root = at;
    } else if (seen.has(at)) {
      root = rootOfCycle(at, parents);
    }
    if (root !== undefined) break;
    path.push(at);
    seen.add(at);
    at = (parent as Edge).id;
  }
  roots.set(at, root);
  for (const id of path) roots.set(id, root);
}

/** The link that was made last closed the circle and is void: what it would have joined to another stays a root. */
function rootOfCycle(start: string, parents: ReadonlyMap<string, Edge>): string {
  let last = parents.get(start) as Edge;
  for (let at = last.id; at !== start; ) {
    const edge = parents.get(at) as Edge;
    if (compareEdges(edge, last) > 0) last = edge;
    at = edge.id;
  }
  return last.other;
}

/** For every root that strong edges join to others: the one root that all of them become. */
function survivorsOf(edges: readonly Edge[], roots: ReadonlyMap<string, string>): Map<string, string> {
  const joins = edges.filter(isStrong).map((edge) => ({
    edge,
    into: roots.get(edge.id) as string,
    from: roots.get(edge.other) as string,
  }));
  const groups = createGroups();
  const absorbed = new Set<string>();
  for (const { into, from } of joins) {
    if (into === from) continue;
    groups.join(into, from);
    absorbed.add(from);
  }
  // The ids that absorb and are not absorbed. Without one, in a circle of merges, everyone who absorbs is a candidate.
  const best = new Map<string, { edge: Edge; into: string }>();
  for (const { edge, into, from } of joins) {
    if (into === from) continue;
    const group = groups.of(into);
    const known = best.get(group);
    const rank = Number(absorbed.has(into)) - Number(known !== undefined && absorbed.has(known.into));
    if (!known || rank < 0 || (rank === 0 && compareEdges(edge, known.edge) < 0)) best.set(group, { edge, into });
  }
  const survivors = new Map<string, string>();
  for (const root of groups.members()) survivors.set(root, (best.get(groups.of(root)) as { into: string }).into);
  return survivors;
}

/** Disjoint sets. */
function createGroups() {
  const leaders = new Map<string, string>();
  function of(member: string): string {
    let at = member;
    for (let next = leaders.get(at); next !== undefined && next !== at; next = leaders.get(at)) {
      // Halving the path keeps the next walk short.
      leaders.set(at, leaders.get(next) ?? next);
      at = next;
    }
    return at;
  }
  return {
    of,
    join(a: string, b: string): void {
      for (const member of [a, b]) if (!leaders.has(member)) leaders.set(member, member);
      leaders.set(of(b), of(a));
    },
    members: () => leaders.keys(),
  };
}
