// Settings of `millrace start`.
import { z } from "zod";
import { duration, flag, identifier } from "#lib/config/settings.ts";
import { refuseHalfHttps } from "#lib/config/tls-settings.ts";
import { retentionSettings } from "#lib/warehouse/retention.ts";
import { endpointSettings } from "../clickhouse/config.ts";
import { batchSettings } from "../consumer/config.ts";
import { ingressSettings, refuseOpenIngress } from "../gateway/config.ts";
import { refuseHalfTls, refuseOpenRelay, relaySettings } from "../relay/config.ts";
import { refuseOpenStats, statsSettings } from "../stats/config.ts";

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
    clickhouseWritable: flag(false).describe(
      "Without CLICKHOUSE_PASSWORD: let every caller on this machine change Millrace's tables.",
    ),
    clickhouseDatabase: identifier("millrace").describe("Database of all tables."),
    logRetention: duration("7d", { min: 60_000 }).describe("How long stored records stay on the event log."),
    ...retentionSettings,
    migrateOnStart: flag(true).describe("Create missing tables."),
  })
  .superRefine(refuseOpenIngress)
  .superRefine(refuseOpenStats)
  .superRefine(refuseOpenRelay)
  .superRefine(refuseHalfTls)
  .superRefine(refuseHalfHttps);

export type StandaloneConfig = z.output<typeof standaloneSchema>;
