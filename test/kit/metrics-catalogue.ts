// Every metric there is, told by the services themselves: each is started over a ClickHouse that is away and a log in
// memory, and its registry is read. docs/metrics.md is the page made of it.
import { readFileSync } from "node:fs";
import type { Registry } from "prom-client";
import { type ZodRawShape, z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { ALERTS_TOPIC, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { createLogger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { startConsumer } from "../../services/consumer/app.ts";
import { batchSettings } from "../../services/consumer/config.ts";
import { EVENTS, POINTS } from "../../services/consumer/kinds.ts";
import { startGateway } from "../../services/gateway/app.ts";
import { ingressSettings } from "../../services/gateway/config.ts";
import { startRelayService } from "../../services/relay/app.ts";
import { relaySettings } from "../../services/relay/config.ts";
import { startStats } from "../../services/stats/app.ts";
import { statsSettings } from "../../services/stats/config.ts";

export interface MetricFacts {
  name: string;
  type: string;
  labels: readonly string[];
  help: string;
}

/** Metrics by the service that has them; under "every service" those that all have. */
export type Catalogue = ReadonlyMap<string, readonly MetricFacts[]>;

export const EVERY_SERVICE = "every service";
const PAGE = new URL("../../docs/metrics.md", import.meta.url);
/** Nothing listens on port 1: what is asked of ClickHouse fails at once, and no metric depends on it. */
const NOWHERE = "http://127.0.0.1:1";

export async function collectCatalogue(): Promise<Catalogue> {
  await using stack = new AsyncDisposableStack();
  const log = await createSqliteLog({ file: ":memory:" });
  stack.use(log);
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC, ALERTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  const warehouse = createClickHouseWarehouse({ url: NOWHERE, user: "", password: "", database: "default" });
  stack.use(warehouse);
  const logger = createLogger({ level: "silent", service: "test" });
  const partsOf = (service: string) => ({ log, warehouse, logger, registry: createMetricsRegistry(service) });
  const [gateway, relay, consumer, stats] = ["gateway", "relay", "consumer", "stats"].map(partsOf) as [
    ReturnType<typeof partsOf>,
    ReturnType<typeof partsOf>,
    ReturnType<typeof partsOf>,
    ReturnType<typeof partsOf>,
  ];
  const here = { host: "127.0.0.1", port: 0, relayPort: 0, relayHttpPort: 0, statsPort: 0, stopTimeout: 1_000 };
  stack.use(await startGateway({ ...defaultsOf(ingressSettings), ...here }, gateway));
  stack.use(await startRelayService({ ...defaultsOf(relaySettings), ...here }, relay));
  stack.use(await startStats({ ...defaultsOf(statsSettings), ...here }, stats));
  stack.use(startConsumer(defaultsOf(batchSettings), { ...consumer, kinds: [EVENTS, POINTS] }));

  const common = factsOf(createMetricsRegistry("any"));
  const shared = new Set(common.map(({ name }) => name));
  const own = ({ registry }: { registry: Registry }) => factsOf(registry).filter(({ name }) => !shared.has(name));
  return new Map([
    [EVERY_SERVICE, common],
    ["gateway", own(gateway)],
    ["relay", own(relay)],
    ["consumer", own(consumer)],
    ["stats", own(stats)],
  ]);
}

function defaultsOf<Shape extends ZodRawShape>(settings: Shape): z.output<z.ZodObject<Shape>> {
  const outcome = parseConfig(z.object(settings), { argv: [], env: {}, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config;
}

function factsOf(registry: Registry): MetricFacts[] {
  const metrics = registry.getMetricsAsArray().map((metric) => {
    // Not in the type, and in every metric.
    const { labelNames } = metric as typeof metric & { labelNames: readonly string[] };
    return { name: metric.name, type: String(metric.type), labels: labelNames, help: metric.help };
  });
  return metrics.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The catalogue as docs/metrics.md has it: reading it takes no service, and a test holds the page to the services. */
export function documentedMetrics(page = readFileSync(PAGE, "utf8")): ReadonlyMap<string, MetricFacts> {
  const rows = page.matchAll(/^\| `(\w+)` +\| (\w+) +\| (.*?) *\| (.*?) *\|$/gm);
  const metrics = [...rows].map(([, name = "", type = "", labels = "", help = ""]): [string, MetricFacts] => [
    name,
    { name, type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = ""]) => label), help },
  ]);
  if (metrics.length === 0) throw new Error("docs/metrics.md has no metrics");
  return new Map(metrics);
}
