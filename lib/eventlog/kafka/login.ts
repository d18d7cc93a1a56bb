// How a client logs in to the brokers: user and password as kafkajs does it, tokens in our own words.
import type kafkajs from "kafkajs";

export interface KafkaPassword {
  mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  username: string;
  password: string;
}

export interface KafkaToken {
  mechanism: "oauthbearer";
  /** Called at each login, which is per connection. Rejects with KafkaLoginError. */
  token(): Promise<string>;
  /** Sent beside it, such as Confluent Cloud's logicalCluster. */
  extensions?: Readonly<Record<string, string>> | undefined;
}

export type KafkaSasl = KafkaPassword | KafkaToken;

/** Why nobody is logged in. Its message is the remedy, so it carries no cause: kafkajs would keep that one instead. */
export class KafkaLoginError extends Error {
  override readonly name = "KafkaLoginError";
  /** Whether the same may succeed later; kafkajs asks it too. */
  readonly retriable: boolean;

  constructor(message: string, { retriable }: { retriable: boolean }) {
    super(message);
    this.retriable = retriable;
  }
}

/** As kafkajs wants it. */
export function saslOf(sasl: KafkaSasl): NonNullable<kafkajs.KafkaConfig["sasl"]> {
  if (sasl.mechanism !== "oauthbearer") return sasl as kafkajs.SASLOptions;
  return {
    mechanism: "oauthbearer",
    authenticationProvider: ({ saslAuthenticate }) => ({
      authenticate: async () => sendToken(sasl, await sasl.token(), saslAuthenticate),
    }),
  };
}

/**
 * Brokers refuse a token with a message and no error code, waiting to be asked for that. kafkajs's own provider does not
 * read it, takes the login for done, and fails at the next request for no reason that names the token.
 */
async function sendToken(
  { extensions = {} }: KafkaToken,
  token: string,
  saslAuthenticate: kafkajs.AuthenticationProviderArgs["saslAuthenticate"],
): Promise<void> {
  const pairs = [`auth=Bearer ${token}`, ...Object.entries(extensions).map(([name, value]) => `${name}=${value}`)];
  const message = Buffer.from(`n,,\u0001${pairs.join("\u0001")}\u0001\u0001`);
  const answer = await saslAuthenticate<string>({
    request: { encode: () => Buffer.concat([lengthOf(message), message]) },
    // Behind its length; -1 is none.
    response: { decode: (bytes) => bytes.subarray(4), parse: (bytes) => bytes.toString() },
  });
  if (answer) throw new KafkaLoginError(tokenRefused(answer), { retriable: false });
}

/** `answer` is the JSON of RFC 7628 or what a broker thinks is one. */
export function tokenRefused(answer: string): string {
  const [, status] = /"status"\s*:\s*"([\w ,.-]{1,80})"/.exec(answer) ?? [];
  const said = status === undefined ? "" : ` (${status})`;
  return `the brokers refuse the token${said}: check issuer, audience and expiry, and that its subject is known to them`;
}

function lengthOf(message: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(message.length);
  return length;
}
