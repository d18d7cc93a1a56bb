// Every way to log in to Kafka, with a credential that is right and with one that is wrong, on a real broker with ACLs; and
// topics and groups under prefixes, which is what ACLs of shared clusters are made for.
import { randomUUID } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import kafkajs from "kafkajs";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createKafkaClient } from "#lib/eventlog/kafka/client.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { record } from "../kit/eventlog-reading.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { openKafkaLog } from "../kit/kafka-log.ts";
import { CLIENT, type LoginBroker, PASSWORDS, startLoginBroker } from "../kit/kafka-logins.ts";
import { patience } from "../kit/patience.ts";
import { temporaryDirectory } from "../kit/standalone.ts";

type Env = Record<string, string>;

const kafka = kafkaForTests();
const canRun = kafka.available && kafka.kind === "apache";
const logger = pino({ level: process.env.LOG_LEVEL ?? "silent" });
const PREFIXES = { KAFKA_TOPIC_PREFIX: "acme.", KAFKA_GROUP_PREFIX: "acme-" };

let broker: LoginBroker;
let folder: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  if (!canRun) return;
  folder = await temporaryDirectory();
  broker = await startLoginBroker();
  await allow();
});
afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
}, patience(30_000));

function openLog(env: Env): OpenLog {
  return openKafkaLog({ ...PREFIXES, ...env }, "logins");
}

/** app may do what Millrace does under its prefixes; limited may look. */
async function allow(): Promise<void> {
  await withAdmin(async (admin) => {
    const { AclOperationTypes: may, AclResourceTypes: on } = kafkajs;
    const grant = (user: string, resourceType: number, resourceName: string, operations: number[]) =>
      operations.map((operation) => ({
        ...{ resourceType, resourceName, operation, principal: `User:${user}`, host: "*" },
        ...{
          resourcePatternType: kafkajs.ResourcePatternTypes.PREFIXED,
          permissionType: kafkajs.AclPermissionTypes.ALLOW,
        },
      }));
    const acl = [
      ...grant("app", on.TOPIC, "acme.", [may.READ, may.WRITE, may.CREATE, may.DESCRIBE, may.DELETE]),
      ...grant("app", on.GROUP, "acme-", [may.READ, may.DESCRIBE]),
      ...grant("limited", on.TOPIC, "acme.", [may.DESCRIBE]),
    ];
    await admin.createAcls({ acl });
  });
}

async function withAdmin<T>(work: (admin: kafkajs.Admin) => Promise<T>): Promise<T> {
  const admin = createKafkaClient({ brokers: [broker.plaintext], clientId: "admin", logger }, 5_000).kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

/** Makes a topic, appends to it and reads it. */
async function roundTrip(log: OpenLog): Promise<string[]> {
  const topic = randomUUID();
  await log.createTopics([{ topic, partitions: 1 }]);
  const [position] = await log.append(topic, [record("key", "value")]);
  const records = await log.tail(topic, 0, {
    from: position?.offset ?? 0,
    maxRecords: 1,
    maxBytes: 1e6,
    maxWaitMs: 5_000,
  });
  return records.map(({ value }) => Buffer.from(value).toString());
}

const tls = () => ({ KAFKA_SSL_CA: broker.files.certFile("broker") });
const sasl = (mechanism: string, env: Env): Env => ({
  ...{ KAFKA_BROKERS: broker.saslSsl, KAFKA_SASL_MECHANISM: mechanism, ...tls() },
  ...env,
});
const password = (mechanism: string, given: string) =>
  sasl(mechanism, { KAFKA_SASL_USERNAME: "app", KAFKA_SASL_PASSWORD: given });
const credentials = (secret: string) =>
  sasl("oauthbearer", {
    ...{
      KAFKA_OAUTH_TOKEN_URL: broker.tokens.url,
      KAFKA_OAUTH_CLIENT_ID: CLIENT.id,
      KAFKA_OAUTH_CLIENT_SECRET: secret,
    },
    ...{ KAFKA_OAUTH_SCOPE: "log", KAFKA_OAUTH_EXTENSIONS: "logicalCluster=lkc-1,identityPoolId=pool-1" },
  });
async function token(audience: string): Promise<Env> {
  const file = join(folder.path, audience);
  await writeFile(file, `${broker.tokens.token(audience)}\n`);
  return sasl("oauthbearer", { KAFKA_OAUTH_TOKEN_FILE: file });
}
const certificate = (name: string): Env => ({
  ...{ KAFKA_BROKERS: broker.mutualTls, ...tls() },
  ...{ KAFKA_SSL_CERT: broker.files.certFile(name), KAFKA_SSL_KEY: broker.files.keyFile(name) },
});

const USER =
  "the brokers refuse this user or password: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
const CERTIFICATE =
  "the brokers refuse the client certificate, or want one: check KAFKA_SSL_CERT and KAFKA_SSL_KEY, and which authorities the brokers trust";
const LOGINS: [name: string, right: () => Env | Promise<Env>, wrong: () => Env | Promise<Env>, told: string][] = [
  ["plain", () => password("plain", PASSWORDS.app), () => password("plain", "wrong"), USER],
  ["scram-sha-256", () => password("scram-sha-256", PASSWORDS.app), () => password("scram-sha-256", "wrong"), USER],
  ["scram-sha-512", () => password("scram-sha-512", PASSWORDS.app), () => password("scram-sha-512", "wrong"), USER],
  [
    "a token from a file",
    () => token("kafka"),
    () => token("somebody-else"),
    "the brokers refuse the token (invalid_token): check issuer, audience and expiry, and that its subject is known to them",
  ],
  [
    "client credentials",
    () => credentials(CLIENT.secret),
    () => credentials("wrong"),
    "answered 401 (invalid_client): check KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET and KAFKA_OAUTH_SCOPE",
  ],
  ["a client certificate", () => certificate("app"), () => certificate("stranger"), CERTIFICATE],
  [
    "no client certificate",
    () => certificate("app"),
    () => ({ KAFKA_BROKERS: broker.mutualTls, ...tls() }),
    CERTIFICATE,
  ],
  [
    "an unknown authority",
    () => password("plain", PASSWORDS.app),
    () => ({ ...password("plain", PASSWORDS.app), KAFKA_SSL_CA: broker.files.certFile("app") }),
    "the brokers' certificate is signed by nobody who is trusted here: name its authority with KAFKA_SSL_CA",
  ],
];

describe.skipIf(!canRun)("a login", () => {
  it.each(LOGINS)("by %s works, and the wrong one is told in a sentence", async (_name, right, wrong, told) => {
    await using log = openLog(await right());
    expect(await roundTrip(log)).toEqual(["value"]);
    await using refused = openLog(await wrong());
    await expect(refused.check()).rejects.toThrow(told);
    await expect(refused.append("any", [record("key", "value")])).rejects.toThrow(told);
  });

  it("fetches one token for all connections", async () => {
    const before = broker.tokens.asked;
    await using log = openLog(credentials(CLIENT.secret));
    await roundTrip(log);
    expect(broker.tokens.asked - before).toBe(1);
  });

  it("by a certificate uses the one that is there when it connects", async () => {
    const place = { cert: join(folder.path, "client.crt"), key: join(folder.path, "client.key") };
    const put = async (name: string) => {
      for (const [kind, file] of Object.entries(place)) {
        const source = kind === "cert" ? broker.files.certFile(name) : broker.files.keyFile(name);
        await writeFile(`${file}.new`, await readFile(source));
        await rename(`${file}.new`, file);
      }
    };
    await put("stranger");
    await using log = openLog({ ...certificate("app"), KAFKA_SSL_CERT: place.cert, KAFKA_SSL_KEY: place.key });
    await expect(log.check()).rejects.toThrow(CERTIFICATE);
    await put("app");
    expect(await roundTrip(log)).toEqual(["value"]);
  });
});

describe.skipIf(!canRun)("a user without a right", () => {
  it("is told which", async () => {
    const topic = randomUUID();
    await using app = openLog(password("plain", PASSWORDS.app));
    await app.createTopics([{ topic, partitions: 1 }]);
    const limited = sasl("plain", { KAFKA_SASL_USERNAME: "limited", KAFKA_SASL_PASSWORD: PASSWORDS.limited });
    await using log = openLog(limited);
    const grant = "the brokers' ACLs do not allow this user to: grant it";
    const read = { from: 0, maxRecords: 1, maxBytes: 1e6, maxWaitMs: 100 };
    await expect(log.append(topic, [record("key", "value")])).rejects.toThrow(
      `${grant} Write and Describe on topic acme.${topic}`,
    );
    await expect(log.tail(topic, 0, read)).rejects.toThrow(`${grant} Read and Describe on topic acme.${topic}`);
    await expect(log.committed(topic, "group")).rejects.toThrow(
      `do not allow this user to: grant it Describe on group acme-group and on topic acme.${topic}`,
    );
    await expect(log.trim(topic, 0, 1)).rejects.toThrow(`${grant} Delete and Describe on topic acme.${topic}`);
    await expect(log.createTopics([{ topic: "new", partitions: 1 }])).rejects.toThrow(
      `${grant} Create and Describe on topics acme.new, or Create on the cluster`,
    );
  });
});

describe.skipIf(!canRun)("prefixes", () => {
  it("are on topics and groups of the cluster, and nowhere in Millrace", async () => {
    const topic = randomUUID();
    await using log = openLog(password("scram-sha-512", PASSWORDS.app));
    const spec = { topic, partitions: 2 };
    expect(await log.createTopics([spec])).toEqual([topic]);
    expect(await log.createTopics([spec])).toEqual([]);
    await log.append(topic, [record("key", "value")]);
    const leaving = new AbortController();
    const seen = Promise.withResolvers<string>();
    const consuming = log.consume({
      topic,
      group: "group",
      signal: leaving.signal,
      async onAssigned(assignment) {
        const { end } = await assignment.bounds();
        if (end === 0) return;
        await assignment.commit({ offset: end, metadata: "m" });
        seen.resolve(assignment.topic);
      },
    });
    expect(await seen.promise).toBe(topic);
    expect([...(await log.committed(topic, "group")).values()]).toEqual([{ offset: 1, metadata: "m" }]);
    leaving.abort();
    await consuming;
    await withAdmin(async (admin) => {
      expect(await admin.listTopics()).toContain(`acme.${topic}`);
      expect(await admin.listTopics()).not.toContain(topic);
      expect((await admin.listGroups()).groups.map(({ groupId }) => groupId)).toContain("acme-group");
    });
  });
});
