import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { awsTokens, clientCredentials, tokenFile } from "./tokens.ts";

const SECRET = "hunter2";

/** Gives these answers, one a request, the last for ever. */
async function endpoint(...answers: [status: number, body: unknown][]) {
  const requests: { authorization: string | undefined; body: string }[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const [status, answer] = answers[Math.min(requests.length, answers.length - 1)] ?? [500, ""];
    requests.push({ authorization: request.headers.authorization, body });
    response.writeHead(status).end(typeof answer === "string" ? answer : JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, requests, [Symbol.asyncDispose]: close };
}

const credentials = (url: string) =>
  clientCredentials({ url, clientId: "id:1", clientSecret: SECRET, scope: "read write" });

describe("client credentials", () => {
  it("are sent as RFC 6749 has them, and the token serves until four fifths of its life are over", async () => {
    await using at = await endpoint([200, { access_token: "a", expires_in: 300 }]);
    const token = credentials(at.url);
    expect(await Promise.all([token(), token()])).toEqual(["a", "a"]);
    expect(await token()).toBe("a");
    const account = Buffer.from(`id%3A1:${SECRET}`).toString("base64");
    const request = { authorization: `Basic ${account}`, body: "grant_type=client_credentials&scope=read+write" };
    expect(at.requests).toEqual([request]);
  });

  it("are asked again for a token without a known end, and after a failure", async () => {
    await using at = await endpoint([503, "busy"], [200, { access_token: "b" }], [200, { access_token: "c" }]);
    const token = credentials(at.url);
    await expect(token()).rejects.toMatchObject({ retriable: true, message: expect.stringContaining("answered 503") });
    expect([await token(), await token()]).toEqual(["b", "c"]);
  });

  it.each([
    [[401, { error: "invalid_client" }], /answered 401 \(invalid_client\): check KAFKA_OAUTH_CLIENT_ID/, false],
    [[400, "<html>"], /answered 400: check KAFKA_OAUTH_CLIENT_ID/, false],
    [[429, {}], /answered 429$/, true],
    [[200, {}], /answered without an access_token$/, true],
    [[200, "null"], /answered without an access_token$/, true],
    [[200, "not JSON"], /answered without an access_token$/, true],
  ] as const)("that get %j are told in a sentence without the secret", async (answer, told, retriable) => {
    await using at = await endpoint(answer as [number, unknown]);
    const failure = await credentials(at.url)().catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: "KafkaLoginError", retriable });
    expect((failure as Error).message).toMatch(told);
    expect((failure as Error).message).not.toContain(SECRET);
  });

  it("for nobody are told with the address", async () => {
    const at = await endpoint([200, {}]);
    await at[Symbol.asyncDispose]();
    await expect(credentials(at.url)()).rejects.toThrow(
      /^the token endpoint http:\/\/127\.0\.0\.1:\d+\/token cannot be reached \(connect ECONNREFUSED .*\): check KAFKA_OAUTH_TOKEN_URL$/,
    );
  });
});

it("a token file is read each time, and must have a token and nothing else", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-token-"));
  const file = join(folder, "token");
  const token = tokenFile(file);
  await expect(token()).rejects.toThrow(`KAFKA_OAUTH_TOKEN_FILE: ${file} cannot be read: ENOENT`);
  for (const bad of ["", "\n", "two tokens", "line\nline", "a\u0001auth=Bearer b", '{"access_token":"x"}']) {
    await writeFile(file, bad);
    await expect(token()).rejects.toThrow("does not contain a token, and nothing else");
  }
  for (const good of ["eyJ0.eyJz.c2ln", "b-2_c.~+/="]) {
    await writeFile(file, `${good}\n`);
    expect(await token()).toBe(good);
  }
  await rm(folder, { recursive: true });
});

describe("tokens of AWS", () => {
  it("come from its signer, for the region", async () => {
    const asked: string[] = [];
    const signer = {
      async generateAuthToken({ region }: { region: string }) {
        asked.push(region);
        return { token: `for ${region}`, expiryTime: Date.now() + 900_000 };
      },
    };
    const token = awsTokens("eu-west-1", async () => signer);
    expect([await token(), await token()]).toEqual(["for eu-west-1", "for eu-west-1"]);
    expect(asked).toEqual(["eu-west-1"]);
  });

  it("need its package, and credentials", async () => {
    await expect(awsTokens("eu-west-1")()).rejects.toThrow("npm install aws-msk-iam-sasl-signer-js beside millrace");
    const signer = { generateAuthToken: () => Promise.reject(new Error("no credentials")) };
    await expect(awsTokens("eu-west-1", async () => signer)()).rejects.toMatchObject({
      message: "AWS gave no credentials for eu-west-1: no credentials",
      retriable: true,
    });
  });
});
