// A process that evaluates alerts when it has the lease. For each generation of the group that it joins it prints the
// generation and 1 when it has the lease, 0 when another copy has.
// Arguments: brokers, ClickHouse's address, database, session timeout in milliseconds.
import pino from "pino";
import { Registry } from "prom-client";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { startAlerts } from "../../services/stats/alerts/evaluator.ts";
import { createAlertStore } from "../../services/stats/alerts/store.ts";

const [brokers = "", url = "", database = "", sessionTimeoutMs = ""] = process.argv.slice(2);
const logger = pino({
  // What the group gave is only told to the log.
  hooks: {
    logMethod([fields]) {
      const { generation, partitions } = fields as { generation?: number; partitions?: number[] };
      if (generation !== undefined) process.stdout.write(`${generation} ${partitions?.length}\n`);
    },
  },
});
const log = createKafkaLog({
  ...{ brokers: brokers.split(","), clientId: "alerts-copy", logger },
  sessionTimeoutMs: Number(sessionTimeoutMs),
});
const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database });
startAlerts({
  ...{ log, warehouse, logger, registry: new Registry() },
  store: createAlertStore({ warehouse, nowMs: Date.now }),
  config: { alertInterval: 200, webhookTimeout: 20_000, webhookSecret: undefined, webhookAllowPrivate: true },
  backoff: { baseMs: 50, capMs: 200 },
});
