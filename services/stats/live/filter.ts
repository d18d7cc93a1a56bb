// Which live points a watcher asked for.
import type { LiveOrigin, LivePoint } from "./point.ts";

export interface LiveFilter {
  /** Any of these names; empty: any name. */
  metrics: ReadonlySet<string>;
  /** Of each tag any of the values; "" also means that the point has no such tag. */
  tags: ReadonlyMap<string, ReadonlySet<string>>;
  /** Not empty. */
  origins: ReadonlySet<LiveOrigin>;
}

export function matches({ metrics, tags, origins }: LiveFilter, point: LivePoint): boolean {
  if (metrics.size > 0 && !metrics.has(point.metric)) return false;
  if (!origins.has(point.origin)) return false;
  for (const [tag, values] of tags) {
    const value = Object.hasOwn(point.tags, tag) ? (point.tags[tag] as string) : "";
    if (!values.has(value)) return false;
  }
  return true;
}
