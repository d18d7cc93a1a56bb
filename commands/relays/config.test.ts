import { describe, expect, it } from "vitest";
import { parseRelays } from "./config.ts";

const parse = (line: string, env: Record<string, string> = {}) => parseRelays(line.split(" ").filter(Boolean), env);

describe("arguments of millrace relays", () => {
  it("name a command, a relay, and what an override needs", () => {
    const target = { relayHttpUrl: "http://127.0.0.1:8081", relayToken: undefined, tlsCa: undefined };
    expect(parse("ls --json")).toEqual({ kind: "ls", json: true, ...target });
    expect(parse("flush web-1")).toEqual({ kind: "flush", id: "web-1", ...target });
    expect(parse("override --interval cpu=1s web-1 --duration 60s --interval=a=b=2s")).toEqual({
      ...{ kind: "override", id: "web-1", duration: "60s", intervals: { cpu: "1s", "a=b": "2s" } },
      ...target,
    });
  });

  it("take address and token from the environment, and from it nothing of what is to be done", () => {
    const env = {
      RELAY_HTTP_URL: "http://relay:8082/",
      RELAY_TOKEN: "t",
      JSON: "true",
      DURATION: "5s",
      INTERVAL: "a=1s",
    };
    expect(parse("ls", env)).toMatchObject({
      kind: "ls",
      json: false,
      relayHttpUrl: "http://relay:8082",
      relayToken: "t",
    });
  });

  it.each([
    ["", /ls, flush or override\?/],
    ["lss", /unknown command lss\. Did you mean ls\?/],
    ["ls a", /takes no ID/],
    ["ls --duration 5s", /--duration is not for ls, only for override/],
    ["flush", /takes one ID/],
    ["flush a b", /takes one ID/],
    ["flush a --json", /--json is not for flush, only for ls/],
    ["flush a --interval cpu=1s", /--interval is not for flush, only for override/],
    ["override a --interval cpu=1s", /needs --duration/],
    ["override a --duration 5s", /at least one --interval/],
    ["override a --duration 5s --interval cpu", /--interval cpu: expected/],
    ["override a --duration 5s --interval =1s", /expected a collector's name/],
    ["override a --duration 5s --interval cpu=1s --interval cpu=2s", /cpu is given twice/],
    ["ls --relay-http-url nowhere", /RELAY_HTTP_URL|relay-http-url/],
  ])("%j is refused with how it is done", (line, message) => {
    const outcome = parse(line);
    expect(outcome).toMatchObject({ kind: "text", exitCode: 2 });
    expect((outcome as { text: string }).text).toMatch(message);
  });

  it("are explained", () => {
    expect(parse("--help")).toMatchObject({
      exitCode: 0,
      text: expect.stringMatching(/override ID[\s\S]*RELAY_HTTP_URL/),
    });
  });
});
