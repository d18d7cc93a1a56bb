// Whether something grows: the line through its samples.

export interface Sample {
  /** Seconds. */
  at: number;
  value: number;
}

/**
 * By how much the line through the samples rises from the first to the last of them, as a share of their mean. The first
 * third is left out: caches fill, and heaps find their size.
 */
export function growthOf(samples: readonly Sample[]): number {
  const settled = samples.slice(Math.floor(samples.length / 3));
  const [first, last] = [settled[0], settled.at(-1)];
  if (!first || !last || settled.length < 3) return Number.NaN;
  const mean = (of: (sample: Sample) => number) => settled.reduce((sum, each) => sum + of(each), 0) / settled.length;
  const [atMean, valueMean] = [mean(({ at }) => at), mean(({ value }) => value)];
  const covariance = mean(({ at, value }) => (at - atMean) * (value - valueMean));
  const variance = mean(({ at }) => (at - atMean) ** 2);
  return valueMean === 0 ? 0 : ((covariance / variance) * (last.at - first.at)) / valueMean;
}
