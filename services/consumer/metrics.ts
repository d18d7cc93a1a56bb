// Metrics of the consumer.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Fate } from "#lib/ledger/stored.ts";
import { startAtZero } from "#lib/process/metrics.ts";
import type { BatchWaits } from "./batch-wait.ts";

export interface ConsumerMetrics {
  insertSeconds: Histogram;
  insertErrors: Counter<"kind">;
  batchRows: Histogram;
  batchAgeSeconds: Histogram;
  lagRecords: Gauge<"topic" | "partition">;
  lagSeconds: Gauge<"topic" | "partition">;
  halted: Gauge<"topic" | "partition">;
  breakerState: Gauge;
  breakerOpened: Counter;
  stalls: Counter<"topic" | "partition">;
  /** Counts a range once it is committed: what may still be retried is not counted. */
  countStored(fates: Iterable<readonly [Fate, number]>): void;
}

export function createConsumerMetrics(registry: Registry): ConsumerMetrics {
  const registers = [registry];
  const rows = new Counter({ name: "millrace_rows_stored_total", help: "Rows stored in ClickHouse.", registers });
  const flushes = new Counter({ name: "millrace_flushes_total", help: "Ranges stored and committed.", registers });
  const outcomes = new Counter({
    name: "millrace_outcomes_total",
    help: "Records that did not become rows: duplicate, conflict, dead_letter, erased, aborted.",
    labelNames: ["outcome"],
    registers,
  });
  const conflicts = new Counter({
    name: "millrace_id_conflicts_total",
    help: "Events not stored because another event had their id.",
    registers,
  });
  const insertErrors = new Counter({
    name: "millrace_insert_errors_total",
    help: "Failed inserts: transient and unknown ones are retried, rejected and too_many_partitions ones split.",
    labelNames: ["kind"],
    registers,
  });
  startAtZero(outcomes, "outcome", ["duplicate", "conflict", "dead_letter", "erased", "aborted"]);
  startAtZero(insertErrors, "kind", ["transient", "rejected", "too_many_partitions", "unknown"]);
  return {
    insertSeconds: new Histogram({
      name: "millrace_insert_seconds",
      help: "Time of one successful insert.",
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    insertErrors,
    batchRows: new Histogram({
      name: "millrace_batch_records",
      help: "Records in one flushed range.",
      buckets: [1, 10, 100, 500, 1000, 5000, 10_000, 25_000, 50_000],
      registers,
    }),
    batchAgeSeconds: new Histogram({
      name: "millrace_batch_age_seconds",
      help: "Age of a range's oldest record, from its append to its commit.",
      buckets: [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600],
      registers,
    }),
    lagRecords: new Gauge({
      name: "millrace_lag_records",
      help: "Records on the log not yet stored.",
      labelNames: ["topic", "partition"],
      registers,
    }),
    lagSeconds: new Gauge({
      name: "millrace_lag_seconds",
      help: "Age of the oldest record not yet stored; 0 when there is none.",
      labelNames: ["topic", "partition"],
      registers,
    }),
    halted: new Gauge({
      name: "millrace_partition_halted",
      help: "1 while the partition waits for an operator; the log line says what to do.",
      labelNames: ["topic", "partition"],
      registers,
    }),
    breakerState: new Gauge({
      name: "millrace_clickhouse_breaker_state",
      help: "0 closed: ClickHouse is used; 1 half open: one call tries; 2 open: partitions wait for ClickHouse.",
      registers,
    }),
    breakerOpened: new Counter({
      name: "millrace_clickhouse_breaker_opened_total",
      help: "Times the partitions began to wait for ClickHouse.",
      registers,
    }),
    stalls: new Counter({
      name: "millrace_partition_stalls_total",
      help: "Times the consumer rejoined its group because a partition with records received none.",
      labelNames: ["topic", "partition"],
      registers,
    }),
    countStored(fates) {
      flushes.inc();
      for (const [fate, count] of fates) {
        if (fate === "row") rows.inc(count);
        else outcomes.inc({ outcome: fate }, count);
        if (fate === "conflict") conflicts.inc(count);
      }
    },
  };
}

export function registerBatchWait(registry: Registry, waits: Pick<BatchWaits, "choose" | "partsShare">): void {
  const registers = [registry];
  new Gauge({
    name: "millrace_batch_wait_seconds",
    help: "How long a batch waits for more records; the label says why: idle, inserts, parts, busy.",
    labelNames: ["reason"],
    registers,
    collect() {
      const { ms, reason } = waits.choose();
      this.reset();
      this.set({ reason }, ms / 1000);
    },
  });
  new Gauge({
    name: "millrace_clickhouse_parts_ratio",
    help: "Active parts of the table's fullest partition; at 1 ClickHouse begins to slow inserts down.",
    registers,
    collect() {
      this.set(waits.partsShare ?? 0);
    },
  });
}
