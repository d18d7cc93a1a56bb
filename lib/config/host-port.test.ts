import { describe, expect, it } from "vitest";
import { hostPorts, parseHostPort } from "./host-port.ts";

const FORM = { usualPort: 9092 };

describe("host:port", () => {
  it.each([
    ["localhost:9092", { host: "localhost", port: 9092 }],
    ["broker-1.kafka.svc:1", { host: "broker-1.kafka.svc", port: 1 }],
    ["10.0.0.1:65535", { host: "10.0.0.1", port: 65_535 }],
    ["[::1]:9092", { host: "::1", port: 9092 }],
    ["[fe80::1%eth0]:9092", { host: "fe80::1%eth0", port: 9092 }],
  ])("%s is taken", (text, expected) => {
    expect(parseHostPort(text, FORM)).toEqual(expected);
  });

  it.each([
    ["localhost", /port is missing: localhost:9092\?/],
    ["localhost:", /port is missing: localhost:9092\?/],
    ["[::1]", /port is missing: \[::1\]:9092\?/],
    ["::1", /in brackets: \[::1\]:9092/],
    ["http://h:9092", /without http:\/\//],
    ["PLAINTEXT://h:9092", /without PLAINTEXT:\/\//],
    ["SASL_SSL://h:9092", /host:port/],
    ["a:1;b:2", /separated by commas, not by ";"/],
    ["a:1 b:2", /separated by commas, not by " "/],
    ["a:1|b:2", /separated by commas, not by "\|"/],
    ["h:99999", /port from 1 to 65535/],
    ["h:0", /port from 1 to 65535/],
    ["h:http", /host:port/],
    [":9092", /host:port/],
    ["user@h:9092", /host:port/],
    ["h:9092/topic", /host:port/],
    ['"h:9092"', /without quotation marks/],
  ])("%s is refused with what is wrong", (text, message) => {
    expect(parseHostPort(text, FORM)).toMatch(message);
  });

  it("a list names the one that is wrong", () => {
    expect(hostPorts(FORM).safeParse("a:1, [::1]:2").data).toEqual(["a:1", "[::1]:2"]);
    expect(hostPorts(FORM).safeParse("a:1,b").error?.issues[0]?.message).toMatch(/^b: .*b:9092/);
  });
});
