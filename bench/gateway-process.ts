// Process under test: a gateway over the log named by its argument, "sqlite:FILE" or "kafka:HOST:PORT,…"; open, unless a
// second argument is the key it asks for.
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startGateway } from "../services/gateway/app.ts";
import { ingressSettings } from "../services/gateway/config.ts";
import { defaultsOf } from "./defaults.ts";
import { serveMeter } from "./meter.ts";

const [target = "", key] = process.argv.slice(2);
const address = target.slice(target.indexOf(":") + 1);
const logger = pino({ level: "silent" });
const log = target.startsWith("kafka:")
  ? createKafkaLog({ brokers: address.split(","), clientId: "bench-gateway", logger })
  : await createSqliteLog({ file: address });
await log.createTopics([{ topic: EVENTS_TOPIC, partitions: target.startsWith("kafka:") ? 12 : 1 }]);
const publicApiKeys = key === undefined ? [] : [key];
const config = { ...defaultsOf(ingressSettings), host: "127.0.0.1", port: 0, publicApiKeys };
const gateway = await startGateway(config, { log, registry: createMetricsRegistry("bench"), logger });

serveMeter(
  {
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await log[Symbol.asyncDispose]();
    },
  },
  { port: gateway.port },
);
