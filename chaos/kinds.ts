// Every fault the harness knows: where it can hit, how long it lasts, what it may overlap with.

/**
 * Faults of one lane come one after another, so that no process is killed while it is frozen. Lanes overlap: a consumer may
 * die while ClickHouse closes sockets. A fault of lane "all" has the cluster to itself; "aside" has a cluster of its own.
 */
export type Lane = "process" | "link" | "broker" | "all" | "aside";

export interface KindSpec {
  lane: Lane;
  targets: readonly string[];
  /** Shortest and longest time that the fault is held, milliseconds. */
  holdMs: readonly [number, number];
  /** What it takes beyond that: restarts, waiting for the proof, milliseconds. */
  overheadMs: number;
  /** Only in runs with so many brokers. Default: in all. */
  brokers?: 1 | 3;
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
  kill_broker: { lane: "process", targets: ["broker"], holdMs: [1_000, 6_000], overheadMs: 6_000, brokers: 1 },
  kill_clickhouse: {
    lane: "process",
    targets: ["engine", "endpoint"],
    holdMs: [1_000, 5_000],
    overheadMs: 4_000,
    brokers: 1,
  },
  freeze_gateway: { lane: "process", targets: GATEWAYS, holdMs: ZOMBIE_MS, overheadMs: 1_000, brokers: 1 },
  freeze_consumer: { lane: "process", targets: CONSUMERS, holdMs: ZOMBIE_MS, overheadMs: 1_000 },
  freeze_broker: { lane: "process", targets: ["broker"], holdMs: ZOMBIE_MS, overheadMs: 3_000, brokers: 1 },
  freeze_clickhouse: { lane: "process", targets: ["engine"], holdMs: ZOMBIE_MS, overheadMs: 1_000, brokers: 1 },
  restart_gateway: { lane: "process", targets: GATEWAYS, holdMs: [200, 1_500], overheadMs: 3_000, brokers: 1 },
  change_consumers: { lane: "process", targets: CONSUMERS, holdMs: [2_000, 5_000], overheadMs: 11_000, brokers: 1 },
  clock_gateway: { lane: "process", targets: GATEWAYS, holdMs: [4_000, 8_000], overheadMs: 2_000, brokers: 1 },
  clock_consumer: { lane: "process", targets: CONSUMERS, holdMs: [4_000, 8_000], overheadMs: 14_000, brokers: 1 },
  slow_broker: { lane: "link", targets: ["broker"], holdMs: [5_000, 10_000], overheadMs: 2_000, brokers: 1 },
  reset_gateway: { lane: "link", targets: GATEWAYS, holdMs: [1_500, 4_000], overheadMs: 1_000 },
  reset_broker: { lane: "link", targets: ["broker"], holdMs: [1_500, 4_000], overheadMs: 1_000, brokers: 1 },
  reset_clickhouse: { lane: "link", targets: ["clickhouse"], holdMs: [1_500, 4_000], overheadMs: 1_000 },
  cut_consumer: { lane: "link", targets: CONSUMERS, holdMs: [16_000, 20_000], overheadMs: 12_000, brokers: 1 },
  status_500: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500, brokers: 1 },
  status_503: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500, brokers: 1 },
  hang: { lane: "link", targets: ["clickhouse"], holdMs: [4_000, 13_000], overheadMs: 500, brokers: 1 },
  close_after_insert: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500 },
  close_mid_insert: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500, brokers: 1 },
  too_many_parts: { lane: "link", targets: ["clickhouse"], holdMs: CLICKHOUSE_MS, overheadMs: 500, brokers: 1 },
  expire_offsets: { lane: "all", targets: ["group"], holdMs: [0, 2_000], overheadMs: 12_000, brokers: 1 },
  wipe_topic: { lane: "all", targets: ["topic"], holdMs: [1_000, 4_000], overheadMs: 36_000, brokers: 1 },
  kill_leader: { lane: "broker", targets: ["leader"], holdMs: [1_000, 4_000], overheadMs: 14_000, brokers: 3 },
  kill_controller: { lane: "broker", targets: ["controller"], holdMs: [1_000, 4_000], overheadMs: 16_000, brokers: 3 },
  rolling_restart: { lane: "broker", targets: ["brokers"], holdMs: [1_000, 3_000], overheadMs: 24_000, brokers: 3 },
  freeze_leader: { lane: "broker", targets: ["leader"], holdMs: [3_000, 8_000], overheadMs: 10_000, brokers: 3 },
  two_away: { lane: "broker", targets: ["brokers"], holdMs: [3_000, 6_000], overheadMs: 18_000, brokers: 3 },
  move_partitions: { lane: "broker", targets: ["topic"], holdMs: [500, 2_000], overheadMs: 8_000, brokers: 3 },
  add_partition: { lane: "broker", targets: ["topic"], holdMs: [0, 100], overheadMs: 36_000, brokers: 3 },
  replace_certificate: { lane: "broker", targets: ["broker"], holdMs: [1_000, 3_000], overheadMs: 5_000, brokers: 3 },
  rotate_password: { lane: "broker", targets: ["user"], holdMs: [1_000, 3_000], overheadMs: 10_000, brokers: 3 },
  cut_clients: { lane: "broker", targets: ["leader"], holdMs: [5_000, 9_000], overheadMs: 1_000, brokers: 3 },
  cut_peers: { lane: "broker", targets: ["leader"], holdMs: [2_000, 5_000], overheadMs: 12_000, brokers: 3 },
  standalone: { lane: "aside", targets: ["sqlite"], holdMs: [45_000, 60_000], overheadMs: 15_000, brokers: 1 },
} as const satisfies Record<string, KindSpec>;

export type FaultKind = keyof typeof KINDS;

export function kindsOf(brokers: 1 | 3): FaultKind[] {
  return (Object.keys(KINDS) as FaultKind[]).filter((kind) => {
    const { brokers: only = brokers }: KindSpec = KINDS[kind];
    return only === brokers;
  });
}

export const ALL_KINDS = kindsOf(1);
