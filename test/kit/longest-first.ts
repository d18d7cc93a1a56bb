// The order in which test files begin: the longest first, or a long one that begins last has all cores for itself.
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files of half a minute and more, longest first, as a run's own list of its slowest files has them. */
const LONGEST = [
  "integrity/chaos",
  "integrity/erasure-deaths",
  "browser/console",
  "component/verify",
  "e2e/kafka-log",
  "browser/delivery",
  "e2e/killed-clients",
  "browser/killed-clients",
  "component/dead-letters",
  "integrity/points",
  "component/properties",
  "e2e/image",
  "e2e/kafka-cluster",
  "integrity/relay-kills",
  "integrity/dead-letter-replays",
  "integrity/consumer-kills",
  "integrity/consumer-doubt",
  "integrity/consumer-outage",
  "integrity/consumer-deaths",
  "e2e/rebalance-stall",
  "e2e/clickhouse-drivers",
  "component/verify-cluster",
  "component/persons-delete",
  "component/gateway-strangers",
  "component/identity",
  "e2e/standalone",
  "e2e/standalone-faults",
  "browser/capture",
  "e2e/readme",
  "integrity/consumer-properties",
  "e2e/dead-letters",
  "integrity/identity-interleavings",
  "component/gateway-rpc",
  "integrity/erasure",
  "e2e/erasure",
  "integrity/clickhouse-outage",
  "component/persons-rpc",
  "integrity/consumer-breaker",
];

/** Where it is on the list; all others come after. */
function rank({ moduleId }: TestSpecification): number {
  const at = LONGEST.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
  return at < 0 ? LONGEST.length : at;
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
