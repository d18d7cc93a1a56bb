// A Kafka broker with every way to log in that can be had on one machine: TLS with SCRAM, PLAIN and OAUTHBEARER on one
// listener, client certificates on another, a token server, and ACLs.
import { createSign, generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createTestCertificates, type TestCertificates } from "./certificates.ts";
import { freePort } from "./free-port.ts";
import { startKafka, type TestBroker } from "./kafka.ts";

export const PASSWORDS = { app: "app-secret", limited: "limited-secret" };
export const CLIENT = { id: "app", secret: "client secret: ü" };
const ISSUER = "https://issuer.test";
const SECURITY = "org.apache.kafka.common.security";

export interface TokenServer extends AsyncDisposable {
  readonly url: string;
  readonly jwksUrl: string;
  /** How often somebody asked for a token. */
  readonly asked: number;
  /** A token as it gives them, for this audience. */
  token(audience?: string): string;
}

export interface LoginBroker extends AsyncDisposable {
  /** Without TLS and login; whoever comes here may do everything. */
  readonly plaintext: string;
  readonly saslSsl: string;
  readonly mutualTls: string;
  readonly files: TestCertificates;
  readonly tokens: TokenServer;
}

export async function startLoginBroker(): Promise<LoginBroker> {
  const files = await createTestCertificates();
  for (const name of ["broker", "app", "stranger"]) await files.make(name);
  const pem = (await readFile(files.keyFile("broker"), "utf8")) + (await readFile(files.certFile("broker"), "utf8"));
  const keyStore = `${files.keyFile("broker")}.pem`;
  await writeFile(keyStore, pem);
  const tokens = await startTokenServer();
  const [sasl, mutual] = [await freePort(), await freePort()];
  let plaintext = 0;
  const broker: TestBroker = await startKafka({
    java: [`-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=${tokens.jwksUrl}`],
    format: ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
      "--add-scram",
      `${mechanism}=[name=app,password=${PASSWORDS.app}]`,
    ]),
    properties({ port, controllerPort }) {
      plaintext = port;
      const listeners = `PLAINTEXT://127.0.0.1:${port},SASL://127.0.0.1:${sasl},MUTUAL://127.0.0.1:${mutual}`;
      const users = Object.entries(PASSWORDS).map(([name, password]) => `user_${name}="${password}"`);
      return `listeners=${listeners},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=${listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=${keyStore}
ssl.truststore.type=PEM
ssl.truststore.location=${files.certFile("app")}
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER
listener.name.sasl.scram-sha-256.sasl.jaas.config=${SECURITY}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=${SECURITY}.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=${SECURITY}.plain.PlainLoginModule required ${users.join(" ")};
listener.name.sasl.oauthbearer.sasl.jaas.config=${SECURITY}.oauthbearer.OAuthBearerLoginModule required;
listener.name.sasl.oauthbearer.sasl.server.callback.handler.class=${SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class=${SECURITY}.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url=${tokens.jwksUrl}
sasl.oauthbearer.expected.audience=kafka
sasl.oauthbearer.expected.issuer=${ISSUER}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
`;
    },
  });
  return {
    plaintext: `127.0.0.1:${plaintext}`,
    saslSsl: `127.0.0.1:${sasl}`,
    mutualTls: `127.0.0.1:${mutual}`,
    files,
    tokens,
    async [Symbol.asyncDispose]() {
      await broker[Symbol.asyncDispose]();
      await tokens[Symbol.asyncDispose]();
      await files[Symbol.asyncDispose]();
    },
  };
}

/** Client credentials at /token, keys at /jwks. */
async function startTokenServer(): Promise<TokenServer> {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const account = `Basic ${Buffer.from(`${CLIENT.id}:${encodeURIComponent(CLIENT.secret)}`).toString("base64")}`;
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  let asked = 0;
  function token(audience = "kafka"): string {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: ISSUER, sub: "app", aud: audience, iat: now - 1, exp: now + 300, scope: "log" };
    const signed = `${base64({ alg: "RS256", kid: "1", typ: "JWT" })}.${base64(claims)}`;
    return `${signed}.${createSign("RSA-SHA256").update(signed).sign(privateKey).toString("base64url")}`;
  }
  const server: Server = createServer((request, response) => {
    const send = (status: number, body: unknown) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (request.url === "/jwks") {
      send(200, { keys: [{ ...publicKey.export({ format: "jwk" }), kid: "1", use: "sig", alg: "RS256" }] });
    } else if (request.headers.authorization !== account) {
      send(401, { error: "invalid_client" });
    } else {
      asked++;
      send(200, { access_token: token(), token_type: "Bearer", expires_in: 300 });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `${at}/token`,
    jwksUrl: `${at}/jwks`,
    get asked() {
      return asked;
    },
    token,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
