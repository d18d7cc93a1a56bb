// Where OAUTHBEARER tokens come from: a file that somebody keeps fresh, an OpenID provider, or AWS.
import { readFile } from "node:fs/promises";
import { KafkaLoginError } from "./login.ts";

export type TokenSource = () => Promise<string>;

interface Token {
  value: string;
  /** Monotonic; undefined: fetched for each login. */
  freshUntilMs: number | undefined;
}

const ASK_MS_MAX = 5_000;
const ANSWER_BYTES_MAX = 100_000;
/** Of a token's life, the part after which another one is fetched. */
const FRESH_PART = 0.8;

/** Read at each login: Kubernetes and agents replace it. */
export function tokenFile(path: string): TokenSource {
  return async () => {
    const text = await readFile(path, "utf8").catch((error: Error) => {
      throw new KafkaLoginError(`KAFKA_OAUTH_TOKEN_FILE: ${path} cannot be read: ${error.message}`, {
        retriable: true,
      });
    });
    const token = text.trim();
    if (/^[\w.~+/-]+=*$/.test(token)) return token;
    throw new KafkaLoginError(`KAFKA_OAUTH_TOKEN_FILE: ${path} does not contain a token, and nothing else`, {
      retriable: true,
    });
  };
}

export interface ClientCredentials {
  url: string;
  clientId: string;
  clientSecret: string;
  scope: string | undefined;
}

/** OAuth 2.0 client credentials: RFC 6749, section 4.4. */
export function clientCredentials(credentials: ClientCredentials): TokenSource {
  return kept(() => askForToken(credentials));
}

async function askForToken({ url, clientId, clientSecret, scope }: ClientCredentials): Promise<Token> {
  const account = `${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`;
  const where = `the token endpoint ${url}`;
  const failed = (what: string, retriable = true) => new KafkaLoginError(`${where} ${what}`, { retriable });
  const body = new URLSearchParams({ grant_type: "client_credentials", ...(scope === undefined ? {} : { scope }) });
  const headers = { authorization: `Basic ${Buffer.from(account).toString("base64")}`, accept: "application/json" };
  const signal = AbortSignal.timeout(ASK_MS_MAX);
  let status: number;
  let text: string;
  try {
    const answer = await fetch(url, { method: "POST", headers, body, redirect: "error", signal });
    status = answer.status;
    text = (await answer.text()).slice(0, ANSWER_BYTES_MAX);
  } catch (error) {
    const reason = signal.aborted ? `no answer in ${ASK_MS_MAX} ms` : reasonOf(error);
    throw failed(`cannot be reached (${reason}): check KAFKA_OAUTH_TOKEN_URL`);
  }
  const answer = parseObject(text);
  if (status !== 200) {
    const said = typeof answer.error === "string" ? ` (${answer.error.slice(0, 80)})` : "";
    const isOurs = status < 500 && status !== 429;
    const remedy = isOurs ? ": check KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET and KAFKA_OAUTH_SCOPE" : "";
    throw failed(`answered ${status}${said}${remedy}`, !isOurs);
  }
  const { access_token: value, expires_in: seconds } = answer;
  if (typeof value !== "string" || value === "") throw failed("answered without an access_token");
  return {
    value,
    freshUntilMs: Number(seconds) > 0 ? performance.now() + Number(seconds) * 1_000 * FRESH_PART : undefined,
  };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    // A proxy's page; the status tells.
    return {};
  }
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}

/** What this file uses of npm's aws-msk-iam-sasl-signer-js. */
interface AwsSigner {
  generateAuthToken(options: { region: string }): Promise<{ token: string; expiryTime: number }>;
}

const AWS_SIGNER: string = "aws-msk-iam-sasl-signer-js";
/** Not a dependency: it brings much of the AWS SDK, for what one kind of cluster needs. */
const loadAwsSigner = () => import(AWS_SIGNER) as Promise<AwsSigner>;

/** Tokens for IAM access control of Amazon MSK, for the identity that the AWS SDK finds. */
export function awsTokens(region: string, load = loadAwsSigner): TokenSource {
  return kept(async () => {
    const signer = await load().catch(() => {
      const message = `KAFKA_SASL_MECHANISM=aws-msk-iam needs the package ${AWS_SIGNER}: npm install ${AWS_SIGNER} beside millrace`;
      throw new KafkaLoginError(message, { retriable: false });
    });
    try {
      const { token, expiryTime } = await signer.generateAuthToken({ region });
      const leftMs = expiryTime - Date.now();
      return { value: token, freshUntilMs: leftMs > 0 ? performance.now() + leftMs * FRESH_PART : undefined };
    } catch (error) {
      throw new KafkaLoginError(`AWS gave no credentials for ${region}: ${reasonOf(error)}`, { retriable: true });
    }
  });
}

/** The same token for all logins while it is fresh, fetched once for those that want it at the same time. */
function kept(fetchToken: () => Promise<Token>): TokenSource {
  let current: Promise<Token> | undefined;
  let freshUntilMs = 0;
  return async () => {
    if (current === undefined || performance.now() >= freshUntilMs) {
      freshUntilMs = performance.now() + ASK_MS_MAX;
      const mine = fetchToken();
      current = mine;
      mine.then(
        (token) => {
          if (current === mine) freshUntilMs = token.freshUntilMs ?? 0;
        },
        () => {
          if (current === mine) current = undefined;
        },
      );
    }
    return (await current).value;
  };
}
