// A breaker for each part of a cluster: a shard that is away holds up its own partitions and no others.
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Breaker, type BreakerDeps, createBreaker } from "./breaker.ts";

/** Readiness speaks of all parts together, and the metric has the worst of their states. */
export function createBreakers(deps: BreakerDeps): Breaker {
  const { cluster } = deps.warehouse;
  if (!cluster) return createBreaker(deps);
  const states: number[] = [];
  const { breakerOpened, breakerState } = deps.metrics;
  const breakerOf = (warehouse: Warehouse, at: number) => {
    const ownState = {
      set(state: number) {
        states[at] = state;
        breakerState.set(Math.max(...states));
      },
    };
    states.push(0);
    return createBreaker({ ...deps, warehouse, metrics: { breakerOpened, breakerState: ownState } });
  };
  const [whole, ...shards] = [deps.warehouse, ...cluster.shards].map(breakerOf) as [Breaker, ...Breaker[]];
  const all = [whole, ...shards];
  return {
    warehouse: { ...whole.warehouse, cluster: { ...cluster, shards: shards.map(({ warehouse }) => warehouse) } },
    async check(signal) {
      await Promise.all(all.map((breaker) => breaker.check(signal)));
    },
    [Symbol.dispose]() {
      for (const breaker of all) breaker[Symbol.dispose]();
    },
  };
}
