// A Kafka log as a service opens it: by its settings.
import pino from "pino";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { checkLogin, kafkaOptions, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";

/** Throws with the text that a service would end with. */
export function openKafkaLog(env: Record<string, string>, clientId = "test"): OpenLog {
  const outcome = parseConfig(z.object(kafkaSettings).superRefine(checkLogin), {
    ...{ argv: [], command: "test", summary: "" },
    env,
  });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  const logger = pino({ level: process.env.LOG_LEVEL ?? "silent" });
  return createKafkaLog(kafkaOptions(outcome.config, clientId, logger));
}
