// What may exist in the embedded engine. These are lists of what is allowed: a name that a new version of the engine brings
// is refused until somebody has judged it (test/component/clickhouse-boundary.test.ts fails on such a name).

const MERGE_TREES = [
  ...["", "Replacing", "Summing", "Aggregating", "Collapsing", "VersionedCollapsing", "Graphite", "Coalescing"],
].map((kind) => `${kind}MergeTree`);

/** Table engines that stay inside the data directory and run nothing. */
export const TABLE_ENGINES: readonly string[] = [
  ...MERGE_TREES,
  ...["Memory", "Null", "Log", "TinyLog", "StripeLog", "Set", "Join", "Buffer", "Merge", "GenerateRandom"],
  ...["View", "MaterializedView"],
];

export const DATABASE_ENGINES: readonly string[] = ["Atomic", "Memory"];

/** Table functions that read nothing but tables, their arguments or nothing at all. */
export const TABLE_FUNCTIONS: readonly string[] = [
  ...["numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "generateRandom", "generateSeries", "generate_series"],
  ...["values", "SQLStandardValues", "view", "viewExplain", "viewIfPermitted", "merge", "null", "format"],
  ...["mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex", "mergeTreeAnalyzeIndexes"],
];

/** The only disk and storage policy: the data directory. */
export const DISK = "default";

export function isAmong(names: readonly string[], name: string): boolean {
  return names.some((known) => known.toLowerCase() === name.toLowerCase());
}
