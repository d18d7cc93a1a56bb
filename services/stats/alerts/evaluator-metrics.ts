// Metrics of alerts.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { startAtZero } from "#lib/process/metrics.ts";

export interface AlertMetrics {
  evaluations: Counter<"result">;
  evaluationSeconds: Histogram;
  /** Alerts that an evaluation had to leave out: their query was refused. */
  refused: Counter;
  transitions: Counter<"level">;
  deliveries: Counter<"result">;
  groupsCut: Counter;
}

export interface AlertGauges {
  isHeld(): boolean;
  pending(): number;
  /** Seconds since the last evaluation that came to its end; undefined without the lease, and before the first. */
  lastEvaluationAge(): number | undefined;
}

/** Labels are closed sets; no alert's name or id is one. */
export function createAlertMetrics(registry: Registry, gauges: AlertGauges): AlertMetrics {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number | undefined) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value === undefined) this.remove();
        else this.set(value);
      },
    });
  gauge("millrace_alerts_lease_held", "1 in the copy that evaluates alerts.", () => Number(gauges.isHeld()));
  gauge("millrace_alerts_deliveries_pending", "Changes of level that wait to be delivered.", gauges.pending);
  gauge(
    "millrace_alerts_last_evaluation_age_seconds",
    "Time since the last complete evaluation; absent where alerts are not evaluated.",
    gauges.lastEvaluationAge,
  );
  const evaluations = new Counter({
    name: "millrace_alerts_evaluations_total",
    help: "Evaluations of all alerts, by result: ok, failed.",
    labelNames: ["result"],
    registers,
  });
  const deliveries = new Counter({
    name: "millrace_alerts_deliveries_total",
    help: "Webhooks, by result: delivered, failed (given up), and each attempt to be retried.",
    labelNames: ["result"],
    registers,
  });
  startAtZero(evaluations, "result", ["ok", "failed"]);
  startAtZero(deliveries, "result", ["delivered", "failed", "retried"]);
  return {
    evaluations,
    evaluationSeconds: new Histogram({
      name: "millrace_alerts_evaluation_seconds",
      help: "Time of one evaluation of all alerts, changes stored.",
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    refused: new Counter({
      name: "millrace_alerts_refused_total",
      help: "Alerts left out of an evaluation because ClickHouse refused their query.",
      registers,
    }),
    transitions: new Counter({
      name: "millrace_alerts_transitions_total",
      help: "Changes of level, by new level.",
      labelNames: ["level"],
      registers,
    }),
    deliveries,
    groupsCut: new Counter({
      name: "millrace_alerts_groups_cut_total",
      help: "Evaluations of one alert that left out groups over the limit.",
      registers,
    }),
  };
}
