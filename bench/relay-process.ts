// Process under test: a relay service over the SQLite log in the file of its first argument, polling every second
// argument milliseconds.
import { pino } from "pino";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startRelay } from "../services/relay/app.ts";
import { relaySettings } from "../services/relay/config.ts";
import { defaultsOf } from "./defaults.ts";
import { serveMeter } from "./meter.ts";

const [file = "", pollMs = ""] = process.argv.slice(2);
const logger = pino({ level: "silent" });
const log = await createSqliteLog({ file });
await log.createTopics([{ topic: POINTS_TOPIC, partitions: 1 }]);
const settings = { host: "127.0.0.1", relayPort: 0, pollInterval: Number(pollMs), stopTimeout: 10_000 };
const config = { ...defaultsOf(relaySettings), ...settings };
const relay = await startRelay({ config, log, registry: createMetricsRegistry("bench"), logger });

serveMeter(
  {
    async [Symbol.asyncDispose]() {
      await relay[Symbol.asyncDispose]();
      await log[Symbol.asyncDispose]();
    },
  },
  { port: relay.port },
);
