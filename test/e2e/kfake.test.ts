// The Kafka adapter against another implementation of the broker than Apache's. It stands in for nothing else.
import pino from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { DRIVERS, isAvailable } from "../kit/drivers.ts";
import { describeEventLog } from "../kit/eventlog-contract.ts";
import { startKfake } from "../kit/kfake.ts";

const skip = isAvailable(DRIVERS.go) ? undefined : "needs Go: apt-get install golang-go";

describeEventLog(
  "the Kafka adapter over kfake",
  async () => {
    const kfake = await startKfake();
    const logger = pino({ level: process.env.LOG_LEVEL ?? "silent" });
    const log = createKafkaLog({ brokers: kfake.brokers, clientId: "contract", logger });
    return {
      ...{ log, partitions: 3 },
      async [Symbol.asyncDispose]() {
        await log[Symbol.asyncDispose]();
        await kfake[Symbol.asyncDispose]();
      },
    };
  },
  skip === undefined ? {} : { skip },
);
