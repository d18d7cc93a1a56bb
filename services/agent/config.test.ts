import { describe, expect, it } from "vitest";
import { parseAgentConfig } from "./config.ts";

const NEEDED = ["--server", "stats.example:3001", "--id", "web 1"];

function parse(argv: string[], env: Record<string, string> = {}) {
  const outcome = parseAgentConfig(argv, env);
  return outcome.kind === "config" ? outcome.config : outcome.text;
}

describe("agent settings", () => {
  it("need a server and an id, and take any number of commands", () => {
    const commands = ["--command", "users=who | wc -l", "--command=temp=cat t"];
    expect(parse([...NEEDED, ...commands, "--interval", "5"])).toMatchObject({
      ...{ host: "stats.example", port: 3001, id: "web 1", intervalMs: 5_000, tls: false, token: undefined },
      commands: [
        { name: "users", command: "who | wc -l" },
        { name: "temp", command: "cat t" },
      ],
    });
    expect(parse([])).toMatch(/--server.*is required[\s\S]*--id.*is required/);
  });

  it("come from variables with a prefix only", () => {
    const env = { ID: "wrong", MILLRACE_ID: "right", MILLRACE_SERVER: "[::1]:3001", MILLRACE_COMMAND: "a=b=c" };
    expect(parse([], env)).toMatchObject({ id: "right", host: "::1", commands: [{ name: "a", command: "b=c" }] });
  });

  it.each([
    [["--server", "host", "--id", "a"], /host:port/],
    [["--server", "host:0", "--id", "a"], /host:port/],
    [["--server", "host:99999", "--id", "a"], /host:port/],
    [[...NEEDED, "--token", "a b"], /one word/],
    [[...NEEDED, "--tls-ca", "f"], /with --tls only/],
    [[...NEEDED, "--interval", "10ms"], /at least 1s/],
    [[...NEEDED, "--command", "date"], /expected name=CMD/],
    [[...NEEDED, "--command", "x="], /expected name=CMD/],
    [[...NEEDED, "--command", "a-b=date"], /cannot use - or : or ,/],
    [[...NEEDED, "--command", "cpu=date"], /the name cpu is taken/],
    [[...NEEDED, "--command", "x=1", "--command", "x=2"], /the name x is taken/],
    [[...NEEDED, "--command"], /needs a value/],
  ])("%j are refused with what is wrong", (argv, message) => {
    expect(parse(argv)).toMatch(message);
  });

  it("are explained under the names that are read", () => {
    expect(parse(["--help"])).toMatch(/MILLRACE_SERVER[\s\S]*sh -c[\s\S]*MILLRACE_LOG_LEVEL/);
  });
});
