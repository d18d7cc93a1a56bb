// The order in which test files begin: the longest first, or a long one that begins last has all cores for itself.
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files of half a minute and more, longest first, as a run's own list of its slowest files has them. */
const LONGEST = [
  "component/verify",
  "browser/console",
  "integrity/erasure-deaths",
  "component/properties",
  "integrity/chaos",
  "component/gateway-strangers",
  "browser/delivery",
  "e2e/image",
  "e2e/kafka-cluster",
  "e2e/kafka-log",
  "browser/console-outages",
  "integrity/erasure",
  "component/identity",
  "e2e/standalone",
  "component/persons-delete",
  "component/gateway-rpc",
  "integrity/consumer-doubt",
  "integrity/relay-kills",
  "component/dead-letters",
  "component/verify-cluster",
  "component/persons-rpc",
  "integrity/dead-letter-replays",
  "e2e/readme",
  "e2e/package",
  "e2e/standalone-faults",
  "integrity/consumer-deaths",
  "integrity/points",
  "integrity/identity-interleavings",
  "e2e/erasure",
  "integrity/consumer-outage",
  "integrity/consumer-kills",
  "integrity/consumer-breaker",
  "component/verify-points",
  "e2e/dead-letters",
  "component/consumer-refused",
  "browser/console-where",
  "integrity/clickhouse-outage",
  "integrity/consumer-rebalance",
  "component/clickhouse-process",
  "browser/capture",
  "component/alert-rules",
  "component/status",
  "browser/react",
  "integrity/topic-reset",
  "component/alerts-evaluation",
  "component/clickhouse-http",
  "browser/killed-clients",
  "e2e/killed-clients",
  "component/connections",
  "e2e/rebalance-stall",
  "chaos/standalone",
];

/** Where it is on the list; all others come after. */
function rank({ moduleId }: TestSpecification): number {
  const at = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
  return at < 0 ? LONGEST.length : at;
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
