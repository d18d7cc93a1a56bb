// Settings of `millrace start`.
import { z } from "zod";
import { LOG_LEVELS } from "#lib/runtime/log.ts";
import { duration, flag, identifier, oneOf, port, secret, text } from "#lib/runtime/settings.ts";
import { refuseHalfHttps } from "#lib/runtime/tls-settings.ts";
import { retentionSettings } from "#lib/warehouse/retention.ts";
import { batchSettings } from "../consumer/config.ts";
import { ingressSettings, refuseOpenIngress } from "../gateway/config.ts";
import { refuseHalfTls, refuseOpenRelay, relaySettings } from "../relay/config.ts";
import { refuseOpenStats, statsSettings } from "../stats/config.ts";

/** Settings of the ClickHouse endpoint, alone or within the standalone. */
export const endpointSettings = {
  host: text("127.0.0.1").describe("Address to listen on; beyond loopback keys and CLICKHOUSE_PASSWORD are asked for."),
  clickhouseHttpPort: port(8123).describe("Port of ClickHouse's HTTP interface."),
  clickhouseUser: text("default").describe("ClickHouse user."),
  clickhousePassword: secret("").describe("ClickHouse password; without one it listens on loopback only."),
  dataDir: text("./.millrace").describe("Directory of all data."),
  logLevel: oneOf(LOG_LEVELS, "info").describe("Least log level."),
};

export const endpointSchema = z.object(endpointSettings);

export const standaloneSchema = z
  .object({
    ...endpointSettings,
    ...ingressSettings,
    ...statsSettings,
    ...relaySettings,
    ...batchSettings,
    // Where two parts share a setting, the description that speaks of both.
    pulseCompat: statsSettings.pulseCompat,
    publicApiKeys: ingressSettings.publicApiKeys,
    secretApiKeys: ingressSettings.secretApiKeys,
    allowAnonymous: flag(false).describe("Listen beyond loopback without keys and tokens."),
    clickhouseDatabase: identifier("millrace").describe("Database of all tables."),
    logRetention: duration("7d", { min: 60_000 }).describe("How long stored records stay on the event log."),
    ...retentionSettings,
    migrateOnStart: flag(true).describe("Create what is missing of the tables."),
  })
  .superRefine(refuseOpenIngress)
  .superRefine(refuseOpenStats)
  .superRefine(refuseOpenRelay)
  .superRefine(refuseHalfTls)
  .superRefine(refuseHalfHttps);

export type StandaloneConfig = z.output<typeof standaloneSchema>;
