// Metrics of the relay.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { startAtZero } from "#lib/process/metrics.ts";
import type { ItemFault } from "#lib/relay-protocol/items.ts";

/** Why a connection ended before the relay wanted it to, or was not let in. */
export type DropReason =
  | "over_limit"
  | "over_address_limit"
  | "not_identified"
  | "wrong_token"
  | "bad_id"
  | "silent"
  | "not_reading"
  | "line_too_long"
  | "tls";

export type PointDropReason = "buffer_full" | "too_large" | "stopped";

export interface RelayMetrics {
  drops: Counter<"reason">;
  polls: Counter;
  received: Counter;
  rejected: Counter<"reason">;
  tagsLeftOut: Counter;
  collectorsRefused: Counter;
  pointsDropped: Counter<"reason">;
  countAppend(records: number, seconds: number, failed: boolean): void;
}

export interface RelayGauges {
  connections(): number;
  bufferBytes(): number;
}

/** Metrics of a relay service. Labels are closed sets; no relay's name is one. */
export function createRelayMetrics(registry: Registry, gauges: RelayGauges): RelayMetrics {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge("millrace_relay_connections", "Agents connected and identified.", gauges.connections);
  gauge("millrace_relay_buffer_bytes", "Points received and not yet on the log.", gauges.bufferBytes);
  const appends = new Counter({
    name: "millrace_relay_appends_total",
    help: "Appends of points to the log, by result: ok, failed.",
    labelNames: ["result"],
    registers,
  });
  startAtZero(appends, "result", ["ok", "failed"]);
  const appended = new Counter({
    name: "millrace_relay_points_appended_total",
    help: "Points that the log made durable.",
    registers,
  });
  const rejected = new Counter({
    name: "millrace_relay_points_rejected_total",
    help: "Items of got lines that are not valid points, by reason; they are dropped.",
    labelNames: ["reason"],
    registers,
  });
  startAtZero(rejected, "reason", [
    ...(["not_utf8", "malformed", "name_too_long", "not_a_number", "not_finite"] satisfies RejectReason[]),
    ...(["decimal_comma", "too_many"] satisfies RejectReason[]),
  ]);
  const pointsDropped = new Counter({
    name: "millrace_relay_points_dropped_total",
    help: "Points received that will not reach the log: buffer_full, too_large, stopped.",
    labelNames: ["reason"],
    registers,
  });
  startAtZero(pointsDropped, "reason", ["buffer_full", "too_large", "stopped"] satisfies PointDropReason[]);
  const appendSeconds = new Histogram({
    name: "millrace_relay_append_seconds",
    help: "Time of one append until durable.",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15],
    registers,
  });
  return {
    drops: new Counter({
      name: "millrace_relay_connections_dropped_total",
      help: "Connections refused or closed by the relay, by reason.",
      labelNames: ["reason"],
      registers,
    }),
    polls: new Counter({
      name: "millrace_relay_polls_total",
      help: "Times an agent was polled for values.",
      registers,
    }),
    received: new Counter({
      name: "millrace_relay_points_received_total",
      help: "Points received from agents.",
      registers,
    }),
    rejected,
    tagsLeftOut: new Counter({
      name: "millrace_relay_tags_left_out_total",
      help: "Collector tags over the limits of number or length, not UTF-8 or with control characters.",
      registers,
    }),
    collectorsRefused: new Counter({
      name: "millrace_relay_collectors_refused_total",
      help: "Collectors over a connection's limits, without a name, or with one that is no text.",
      registers,
    }),
    pointsDropped,
    countAppend(records, seconds, failed) {
      appends.inc({ result: failed ? "failed" : "ok" });
      appendSeconds.observe(seconds);
      if (!failed) appended.inc(records);
    },
  };
}

/** Beyond what can be wrong with an item itself: a comma cut its number, or its line has too many items. */
export type RejectReason = ItemFault | "decimal_comma" | "too_many";
