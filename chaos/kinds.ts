// Every fault the harness knows: where it can hit, how long it lasts, what it may overlap with.

/**
 * Faults of one lane come one after another, so that no process is killed while it is frozen. Lanes overlap: a consumer may
 * die while ClickHouse closes sockets. A fault of lane "all" has the cluster to itself; "aside" has a cluster of its own.
 */
export type Lane = "process" | "link" | "all" | "aside";

export interface KindSpec {
  lane: Lane;
  targets: readonly string[];
  /** Shortest and longest time that the fault is held, milliseconds. */
  holdMs: readonly [number, number];
  /** What it takes beyond that: restarts, waiting for the proof, milliseconds. */
  overheadMs: number;
}

export const GATEWAYS = ["gateway-1", "gateway-2"] as const;
export const CONSUMERS = ["consumer-1", "consumer-2", "consumer-3"] as const;

/** Longer than the session timeout (6 s), so that partitions move, and than the 10 s an insert may follow its marker. */
const ZOMBIE_MS = [12_000, 16_000] as const;
const CLICKHOUSE_MS = [3_000, 8_000] as const;

/**
 * Tokens that each table remembers here, instead of 10,000: what all consumers insert in some twelve seconds, which is
 * longer than an insert may follow its marker. A cut of one consumer lasts until the others have inserted more than that.
 */
export const TOKENS_REMEMBERED = 100;

export const KINDS = {
  kill_gateway: { lane: "process", targets: GATEWAYS, holdMs: [500, 4_000], overheadMs: 2_000 },
  kill_consumer: { lane: "process", targets: CONSUMERS, holdMs: [500, 4_000], overheadMs: 4_000 },
  kill_broker: { lane: "process", targets: ["broker"], holdMs: [1_000, 6_000], overheadMs: 6_000 },
  kill_clickhouse: { lane: "process", targets: ["engine", "endpoint"], holdMs: [1_000, 5_000], overheadMs: 4_000 },
  freeze_gateway: { lane: "process", targets: GATEWAYS, holdMs: ZOMBIE_MS, overheadMs: 1_000 },
  freeze_consumer: { lane: "process", targets: CONSUMERS, holdMs: ZOMBIE_MS, overheadMs: 1_000 },
  freeze_broker: { lane: "process", targets: ["broker"], holdMs: ZOMBIE_MS, overheadMs: 3_000 },
  freeze_clickhouse: { lane: "process", targets: ["engine"], holdMs: ZOMBIE_MS, overheadMs: 1_000 },
  restart_gateway: { lane: "process", targets: GATEWAYS, holdMs: [200, 1_500], overheadMs: 3_000 },
  change_consumers: { lane: "process", targets: CONSUMERS, holdMs: [2_000, 5_000], overheadMs: 11_000 },
  clock_gateway: { lane: "process", targets: GATEWAYS, holdMs: [4_000, 8_000], overheadMs: 2_000 },
  clock_consumer: { lane: "process", targets: CONSUMERS, holdMs: [4_000, 8_000], overheadMs: 14_000 },
  slow_broker: { lane: "link", targets: ["broker"], holdMs: [5_000, 10_000], overheadMs: 2_000 },
  reset_gateway: { lane: "link", targets: GATEWAYS, holdMs: [1_500, 4_000], overheadMs: 1_000 },
  reset_broker: { lane: "link", targets: ["broker"], holdMs: [1_500, 4_000], overheadMs: 1_000 },
  reset_clickhouse: { lane: "link", targets: ["clickhouse"], holdMs: [1_500, 4_000], overheadMs: 1_000 },
  cut_consumer: { lane: "link", targets: CONSUMERS, holdMs: [16_000, 20_000], overheadMs: 12_000 },
  status_500: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  status_503: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  hang: { lane: "link", targets: ["clickhouse"], holdMs: [4_000, 13_000], overheadMs: 500 },
  close_after_insert: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  close_mid_insert: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  too_many_parts: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  expire_offsets: { lane: "all", targets: ["group"], holdMs: [0, 2_000], overheadMs: 12_000 },
  wipe_topic: { lane: "all", targets: ["topic"], holdMs: [1_000, 4_000], overheadMs: 36_000 },
  standalone: { lane: "aside", targets: ["sqlite"], holdMs: [45_000, 60_000], overheadMs: 15_000 },
} as const satisfies Record<string, KindSpec>;

export type FaultKind = keyof typeof KINDS;

export const ALL_KINDS = Object.keys(KINDS) as FaultKind[];
