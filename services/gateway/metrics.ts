// Metrics of the gateway.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { startAtZero } from "#lib/process/metrics.ts";
import type { Verdict } from "./ingest.ts";

export interface GatewayMetrics {
  requests: Counter<"dialect" | "code">;
  requestSeconds: Histogram<"dialect">;
  /** Requests refused, by kind of refusal. */
  refused: Counter<"reason">;
  clampedTimes: Counter;
  /** Events of requests refused for their number a second. */
  rateLimited: Counter<"dialect">;
  /** Events, stored all the same, whose name is one too many for their key. */
  eventNamesOverCap: Counter;
  countVerdict(dialect: string, verdict: Verdict): void;
  countAppend(records: number, bytes: number, seconds: number, failed: boolean): void;
}

/** Metrics of a gateway. Labels are bounded: dialects, codes and reasons are closed sets. */
export function createGatewayMetrics(registry: Registry, inFlightBytes: () => number): GatewayMetrics {
  const registers = [registry];
  const accepted = new Counter({
    name: "millrace_events_accepted_total",
    help: "Events acknowledged after the log made them durable.",
    labelNames: ["dialect"],
    registers,
  });
  const rejected = new Counter({
    name: "millrace_events_rejected_total",
    help: "Events rejected, by the rule they broke; those rejected as unavailable can be sent again.",
    labelNames: ["dialect", "reason"],
    registers,
  });
  const appends = new Counter({
    name: "millrace_log_appends_total",
    help: "Appends to the event log (group commits), by result: ok, failed.",
    labelNames: ["result"],
    registers,
  });
  startAtZero(appends, "result", ["ok", "failed"]);
  const appendSeconds = new Histogram({
    name: "millrace_log_append_seconds",
    help: "Time of one append until durable.",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15],
    registers,
  });
  const appendRecords = new Histogram({
    name: "millrace_log_append_records",
    help: "Records sharing one append.",
    buckets: [1, 10, 50, 100, 250, 500, 1000, 2000],
    registers,
  });
  const appendBytes = new Counter({
    name: "millrace_log_append_bytes_total",
    help: "Value bytes of records made durable.",
    registers,
  });
  new Gauge({
    name: "millrace_gateway_in_flight_bytes",
    help: "Body bytes of requests not yet answered.",
    registers,
    collect() {
      this.set(inFlightBytes());
    },
  });
  return {
    requests: new Counter({
      name: "millrace_requests_total",
      help: "Requests answered, by dialect and code: HTTP status, grpc_N of a gRPC call, gone or undelivered.",
      labelNames: ["dialect", "code"],
      registers,
    }),
    requestSeconds: new Histogram({
      name: "millrace_request_seconds",
      help: "Time from the request's head to its answer.",
      labelNames: ["dialect"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    refused: new Counter({
      name: "millrace_requests_refused_total",
      help: "Requests refused, by reason: address, form, caller, content, size, busy, rate, log, internal.",
      labelNames: ["reason"],
      registers,
    }),
    clampedTimes: new Counter({
      name: "millrace_event_times_clamped_total",
      help: "Events whose time lay outside 1970-01-01 to receive time + 24 h and was moved; the original is kept.",
      registers,
    }),
    rateLimited: new Counter({
      name: "millrace_rate_limited_events_total",
      help: "Events in requests refused by RATE_LIMIT_EVENTS; callers get Retry-After.",
      labelNames: ["dialect"],
      registers,
    }),
    eventNamesOverCap: new Counter({
      name: "millrace_event_names_over_cap_total",
      help: "Events whose name came after 10,000 others of the same key; they are stored.",
      registers,
    }),
    countVerdict(dialect, verdict) {
      accepted.inc({ dialect }, verdict.accepted);
      for (const { code } of verdict.rejected) rejected.inc({ dialect, reason: code });
    },
    countAppend(records, bytes, seconds, failed) {
      appends.inc({ result: failed ? "failed" : "ok" });
      appendSeconds.observe(seconds);
      appendRecords.observe(records);
      if (!failed) appendBytes.inc(bytes);
    },
  };
}
