import { expect, it } from "vitest";
import { createLogger, describeError, plainLines } from "./log.ts";

function captured(level: "info" | "warn" = "info") {
  const lines: Record<string, unknown>[] = [];
  const stream = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  return { lines, logger: createLogger({ level, service: "gateway", stream }) };
}

it("writes one JSON line with level, time, service, message and fields", () => {
  const { lines, logger } = captured();
  logger.info({ port: 8080 }, "listening");
  expect(lines).toEqual([
    { level: "info", time: expect.stringMatching(/^\d{4}-.*Z$/), service: "gateway", port: 8080, message: "listening" },
  ]);
});

it("leaves out what is below the level", () => {
  const { lines, logger } = captured("warn");
  logger.info("quiet");
  logger.warn("loud");
  expect(lines.map(({ message }) => message)).toEqual(["loud"]);
});

it("writes the whole chain of causes", () => {
  const { lines, logger } = captured();
  const socket = Object.assign(new Error("connect failed"), { code: "ECONNREFUSED" });
  const error = new TypeError("flush failed", { cause: new Error("insert failed", { cause: socket }) });
  logger.error({ err: error }, "cannot flush");
  expect(lines[0]?.err).toEqual({
    type: "TypeError",
    message: "flush failed",
    stack: expect.stringContaining("flush failed"),
    cause: {
      type: "Error",
      message: "insert failed",
      cause: { type: "Error", message: "connect failed", code: "ECONNREFUSED" },
    },
  });
});

it("survives a chain of causes that bites its tail, and causes that are no errors", () => {
  const error = new Error("a", { cause: "text" });
  expect(describeError(error)).toMatchObject({ cause: "text" });
  error.cause = new AggregateError([error], "several");
  expect(JSON.stringify(describeError(error))).toContain("several");
});

it("hides credentials that reach a log line", () => {
  const { lines, logger } = captured();
  logger.info({ config: { clickhousePassword: "hunter2", secretApiKeys: ["hunter2"] }, token: "hunter2" }, "config");
  expect(JSON.stringify(lines)).not.toContain("hunter2");
});

it("writes plain lines for a terminal, an error below its line", () => {
  let text = "";
  const logger = createLogger({
    level: "info",
    service: "gateway",
    stream: plainLines({ write: (chunk) => (text += chunk) }),
  });
  logger.info({ port: 8080, host: "a b" }, "listening");
  expect(text).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO gateway: listening port=8080 host="a b"\n$/);
  text = "";
  logger.error({ err: new Error("outer", { cause: new Error("inner") }) }, "failed");
  expect(text).toMatch(/ERROR gateway: failed\n {4}Error: outer\n(.|\n)*\n {4}caused by Error: inner\n$/);
  text = "";
  logger.fatal({ err: describeError(new Error("port 80 is taken"), 1) }, "cannot start");
  expect(text).toMatch(/^\S+ FATAL gateway: cannot start: port 80 is taken\n$/);
});

it("keeps what callers sent from doing more to a terminal than show itself", () => {
  let text = "";
  const stream = plainLines({ write: (chunk) => (text += chunk) });
  const logger = createLogger({ level: "info", service: "gateway", stream });
  const hostile = "\u001b]0;PWNED\u0007\u001b[2J\u009b31m\u202e\r\nINFO gateway: forged";
  const err = new Error(hostile, { cause: new Error(hostile) });
  logger.warn({ event: hostile, plain: "\u001b[2J", nested: { key: hostile }, err }, hostile);
  logger.warn({ err: new AggregateError([new Error(hostile)], "several"), [hostile]: 1 }, "next");
  expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  // Each line begins with a time, or is one of an error's, which are set in.
  for (const line of text.trimEnd().split("\n")) expect(line).toMatch(/^(\d\d:\d\d:\d\d| {4})/);
});
