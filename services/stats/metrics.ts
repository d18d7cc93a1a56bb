// Metrics of the stats service.
import { Counter, Histogram, type Registry } from "prom-client";

export interface StatsMetrics {
  countRequest(route: string, status: number): void;
  timeQuery(query: string, seconds: number, outcome: "ok" | "failed" | "refused"): void;
}

const SECONDS_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

export function createStatsMetrics(registry: Registry): StatsMetrics {
  const requests = new Counter({
    name: "millrace_stats_requests_total",
    help: "Requests on the stats port, by route and HTTP status.",
    labelNames: ["route", "status"],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: "millrace_stats_query_seconds",
    help: "Time of a query, waiting for its turn included; outcome refused: too many at once.",
    labelNames: ["query", "outcome"],
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  });
  return {
    countRequest: (route, status) => requests.inc({ route, status: String(status) }),
    timeQuery: (query, time, outcome) => seconds.observe({ query, outcome }, time),
  };
}
