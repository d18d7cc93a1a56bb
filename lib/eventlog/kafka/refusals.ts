// What to do when Kafka cannot or will not: one sentence for each refusal, of brokers, of TLS and of logins.
import { KafkaLoginError } from "./login.ts";

const CREDENTIALS =
  "the brokers refuse this user or password: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
const IN_SYNC = "too few replicas are in sync: check that all brokers of the cluster run";
const ANY = "check that the brokers run and that KAFKA_BROKERS, KAFKA_SSL and KAFKA_SASL_* are right";

const NO_TOPIC = "the topic does not exist: run `millrace migrate`";

/** By the protocol's name. */
const REMEDIES: Readonly<Record<string, string>> = {
  UNKNOWN_TOPIC_OR_PARTITION: NO_TOPIC,
  UNKNOWN_TOPIC_ID: NO_TOPIC,
  NOT_ENOUGH_REPLICAS: IN_SYNC,
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: IN_SYNC,
  KAFKA_STORAGE_ERROR: "a broker cannot write: check its disk",
  SASL_AUTHENTICATION_FAILED: CREDENTIALS,
  UNSUPPORTED_SASL_MECHANISM: "the brokers do not offer this way to log in: check KAFKA_SASL_MECHANISM",
  POLICY_VIOLATION:
    "the cluster has rules for topics that this one breaks: check KAFKA_PARTITIONS and KAFKA_REPLICATION_FACTOR, or create it by hand",
};

const WITHOUT_TOPIC = new Set(["UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID"]);
const REFUSED_BY_ACL = /^(?:TOPIC|GROUP|CLUSTER|TRANSACTIONAL_ID)_AUTHORIZATION_FAILED$/;

/** By what OpenSSL and Node call it, in code or message. */
const TLS_REMEDIES: readonly [RegExp, string][] = [
  [
    /SELF_SIGNED_CERT|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/,
    "the brokers' certificate is signed by nobody who is trusted here: name its authority with KAFKA_SSL_CA",
  ],
  [/CERT_HAS_EXPIRED/, "the brokers' certificate has expired: renew it"],
  [/ALTNAME_INVALID/, "the brokers' certificate is for other names: use one of those in KAFKA_BROKERS"],
  [
    // Java says the same of a certificate that it does not trust and of none.
    /ALERT_(?:BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_(?:REQUIRED|UNKNOWN|EXPIRED|REVOKED))/,
    "the brokers refuse the client certificate, or want one: check KAFKA_SSL_CERT and KAFKA_SSL_KEY, and which authorities the brokers trust",
  ],
  [/WRONG_VERSION_NUMBER|before secure TLS/, "the brokers do not speak TLS at this port: check KAFKA_SSL and the port"],
];

/** The protocol's name of an error the broker answered with, looking through kafkajs's wrappers. */
export function protocolErrorOf(error: unknown): string | undefined {
  for (const each of causesOf(error)) if ("type" in each && typeof each.type === "string") return each.type;
  return undefined;
}

/** There is no such topic, or none with that id. */
export function isWithoutTopic(error: unknown): boolean {
  return WITHOUT_TOPIC.has(protocolErrorOf(error) ?? "");
}

/** Of the login that failed, if that is what happened. */
export function loginErrorOf(error: unknown): KafkaLoginError | undefined {
  return causesOf(error).find((each) => each instanceof KafkaLoginError);
}

/** kafkajs asks every broker for the group's coordinator, and keeps none of their reasons. */
export function isWithoutCoordinator(error: unknown): boolean {
  return causesOf(error).some(({ name }) => name === "KafkaJSGroupCoordinatorNotFound");
}

export function isRefusedByAcl(error: unknown): boolean {
  return REFUSED_BY_ACL.test(protocolErrorOf(error) ?? "");
}

/** `needs` is the permission without which brokers refuse this by their ACLs: "Write on topic x". */
export function remedyOf(error: unknown, needs: string): string {
  const login = loginErrorOf(error);
  if (login !== undefined) return login.message;
  const name = protocolErrorOf(error) ?? "";
  if (isRefusedByAcl(error)) return `the brokers' ACLs do not allow this user to: grant it ${needs}`;
  const known = REMEDIES[name];
  if (known !== undefined) return known;
  if (isWithoutCoordinator(error)) {
    return `no broker names the group's coordinator: unless they have just started, their ACLs do not allow this user to: grant it ${needs}`;
  }
  if (causesOf(error).some((each) => each.name === "KafkaJSSASLAuthenticationError")) return CREDENTIALS;
  return tlsRemedyOf(error) ?? ANY;
}

/** Undefined unless TLS is what failed. */
export function tlsRemedyOf(error: unknown): string | undefined {
  const words = causesOf(error).map((each) => `${(each as NodeJS.ErrnoException).code ?? ""} ${each.message}`);
  return TLS_REMEDIES.find(([pattern]) => pattern.test(words.join(" ")))?.[1];
}

/** It, what kafkajs wrapped, and the first of several. */
function causesOf(error: unknown, depth = 0): Error[] {
  if (!(error instanceof Error) || depth > 5) return [];
  const { errors, partitions, cause } = error as {
    errors?: unknown[];
    partitions?: { error?: unknown }[];
    cause?: unknown;
  };
  return [error, ...causesOf(errors?.[0] ?? partitions?.[0]?.error ?? cause, depth + 1)];
}
