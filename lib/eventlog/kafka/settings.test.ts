import pino from "pino";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { checkLogin, kafkaOptions, kafkaSettings } from "./settings.ts";

type Env = Record<string, string>;

const parse = (env: Env) =>
  parseConfig(z.object(kafkaSettings).superRefine(checkLogin), {
    ...{ argv: [], command: "test", summary: "" },
    env: { KAFKA_BROKERS: "b-1.x.c2.kafka.eu-west-1.amazonaws.com:9098", ...env },
  });

const TOKEN_FILE = { KAFKA_SASL_MECHANISM: "oauthbearer", KAFKA_OAUTH_TOKEN_FILE: "/token" };
const TOKEN_URL = {
  ...{ KAFKA_SASL_MECHANISM: "oauthbearer", KAFKA_OAUTH_TOKEN_URL: "https://id.test/token" },
  ...{ KAFKA_OAUTH_CLIENT_ID: "id", KAFKA_OAUTH_CLIENT_SECRET: "secret" },
};
const without = (env: Env, name: string) => Object.fromEntries(Object.entries(env).filter(([key]) => key !== name));

describe("settings of a login", () => {
  it.each<[Env, string]>([
    [
      { KAFKA_SASL_MECHANISM: "oauthbearer" },
      "oauthbearer needs either KAFKA_OAUTH_TOKEN_FILE or KAFKA_OAUTH_TOKEN_URL",
    ],
    [{ ...TOKEN_URL, ...TOKEN_FILE }, "oauthbearer needs either KAFKA_OAUTH_TOKEN_FILE or KAFKA_OAUTH_TOKEN_URL"],
    [
      without(TOKEN_URL, "KAFKA_OAUTH_CLIENT_ID"),
      "KAFKA_OAUTH_CLIENT_ID (--kafka-oauth-client-id), not set: is required",
    ],
    [
      without(TOKEN_URL, "KAFKA_OAUTH_CLIENT_SECRET"),
      "KAFKA_OAUTH_CLIENT_SECRET (--kafka-oauth-client-secret), not set",
    ],
    [{ ...TOKEN_URL, KAFKA_OAUTH_TOKEN_URL: "http://id.test/token" }, "must begin with https://"],
    [without(TOKEN_FILE, "KAFKA_SASL_MECHANISM"), "is for KAFKA_SASL_MECHANISM=oauthbearer, which is not set"],
    [{ ...TOKEN_FILE, KAFKA_OAUTH_EXTENSIONS: "logicalCluster" }, "expected name=value, the name of letters only"],
    [{ ...TOKEN_FILE, KAFKA_OAUTH_EXTENSIONS: "auth=Bearer x" }, "expected name=value, the name of letters only"],
    [{ KAFKA_SASL_MECHANISM: "aws-msk-iam", KAFKA_BROKERS: "b:9098" }, "the broker's name does not tell the region"],
    [{ KAFKA_SSL_CERT: "/cert.pem" }, "TLS needs both KAFKA_SSL_CERT and KAFKA_SSL_KEY"],
    [{ KAFKA_SSL_CERT: "/cert.pem", KAFKA_SSL_KEY: "/key.pem" }, "KAFKA_SSL_CERT: /cert.pem cannot be read: ENOENT"],
    [{ KAFKA_TOPIC_PREFIX: "a/" }, "expected letters, digits and . _ - of at most 100 characters"],
    [{ KAFKA_COMPRESSION: "brotli" }, "expected one of none, gzip, snappy, lz4, zstd"],
  ])("%j are refused: %s", (env, told) => {
    const outcome = parse(env);
    expect(outcome.kind).toBe("faults");
    expect(outcome.kind === "faults" ? outcome.text : "").toContain(told);
  });

  it.each<[Env, object]>([
    [{}, { ssl: false, sasl: undefined, topicPrefix: "", compression: "none" }],
    [TOKEN_FILE, { sasl: { mechanism: "oauthbearer", extensions: {} } }],
    [{ ...TOKEN_URL, KAFKA_OAUTH_EXTENSIONS: "a=b=c,d=e" }, { sasl: { extensions: { a: "b=c", d: "e" } } }],
    [{ ...TOKEN_URL, KAFKA_OAUTH_TOKEN_URL: "http://127.0.0.1:1/token" }, { sasl: { mechanism: "oauthbearer" } }],
    [{ KAFKA_SASL_MECHANISM: "aws-msk-iam" }, { ssl: true, sasl: { mechanism: "oauthbearer" } }],
    [
      { KAFKA_SASL_MECHANISM: "plain", KAFKA_SASL_USERNAME: "$ConnectionString" },
      { sasl: { username: "$ConnectionString" } },
    ],
    [
      { KAFKA_TOPIC_PREFIX: "a.", KAFKA_GROUP_PREFIX: "g-", KAFKA_COMPRESSION: "zstd" },
      { topicPrefix: "a.", groupPrefix: "g-", compression: "zstd" },
    ],
  ])("%j are taken", (env, options) => {
    const outcome = parse(env);
    if (outcome.kind !== "config") throw new Error(outcome.text);
    expect(kafkaOptions(outcome.config, "test", pino({ level: "silent" }))).toMatchObject(options);
  });
});
