// Settings of alert evaluation and webhooks.
import type { z } from "zod";
import { duration, fixed, flag, secret } from "#lib/config/settings.ts";

/** What evaluating alerts and telling their receivers needs, in whichever process it runs. */
export const alertSettings = {
  alertInterval: duration("30s", { min: 1000, max: 3_600_000 }).describe("How often alerts are evaluated."),
  /** For a receiver to answer: it is told again for 24 hours. */
  webhookTimeout: fixed(10_000, "10s"),
  webhookSecret: secret().describe("Secret that signs webhooks, in X-Millrace-Signature. Unset: not signed."),
  webhookAllowPrivate: flag(false).describe(
    "Allows webhooks to private, loopback, link-local and other special addresses.",
  ),
};

export type AlertConfig = z.output<z.ZodObject<typeof alertSettings>>;
