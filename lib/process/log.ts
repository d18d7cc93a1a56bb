// Logs: JSON lines for machines, plain lines when a person watches the terminal.
import { type DestinationStream, type Logger, pino } from "pino";
import { printable } from "./printable.ts";

export type { BaseLogger, Logger } from "pino";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LoggerOptions {
  level: LogLevel;
  /** Appears in each line. */
  service: string;
  /** Default stdout: JSON, or plain lines on a terminal. */
  stream?: DestinationStream;
}

/**
 * Log errors as `logger.error({ err }, "constant message")`: `err` is written with its whole chain of causes. Fields that
 * hold credentials in our configurations are hidden, should one ever be logged.
 */
export function createLogger({ level, service, stream }: LoggerOptions): Logger {
  // Synchronous on purpose: the last line before a crash is the one that matters.
  const destination = stream ?? (process.stdout.isTTY ? plainLines(process.stdout) : pino.destination({ sync: true }));
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (error: unknown) => describeError(error) },
      redact: { paths: SECRET_PATHS, censor: "<redacted>" },
    },
    destination,
  );
}

const SECRET_FIELDS = [
  "password",
  "clickhousePassword",
  "kafkaSaslPassword",
  "kafkaOauthClientSecret",
  "publicApiKeys",
  "secretApiKeys",
  "apiKey",
  "millraceApiKey",
  "authorization",
  "token",
  "statsToken",
  "relayToken",
  "webhookSecret",
];
const SECRET_PATHS = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]);

interface DescribedError {
  type: string;
  message: string;
  code?: string | number;
  stack?: string;
  cause?: unknown;
  errors?: unknown[];
}

const CAUSES_MAX = 10;

/** The error and its causes as plain data; only the outermost keeps its stack, and it only at depth 0. */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  const { code } = error as { code?: unknown };
  const described: DescribedError = { type: error.name, message: error.message };
  if (typeof code === "string" || typeof code === "number") described.code = code;
  if (depth === 0 && error.stack) described.stack = error.stack;
  if (depth >= CAUSES_MAX) return described;
  if (error.cause !== undefined) described.cause = describeError(error.cause, depth + 1);
  if (error instanceof AggregateError) described.errors = error.errors.map((each) => describeError(each, depth + 1));
  return described;
}

interface PlainLine {
  time: string;
  level: string;
  service: string;
  message?: string;
  err?: DescribedError;
}

/**
 * `12:00:00.000 INFO gateway: listening port=8080`; an error's stack and causes follow on lines of their own. Without a stack
 * its message is in the same line.
 */
export function plainLines(out: { write(text: string): unknown }): DestinationStream {
  return {
    write(json) {
      const { time, level, service, message, err, ...fields } = JSON.parse(json) as PlainLine;
      const pairs = Object.entries(fields).map(([key, value]) => ` ${printable(key)}=${plainValue(value)}`);
      const said = [message ?? "", ...(err && err.stack === undefined ? [err.message] : [])].join(": ");
      const head = `${time.slice(11, 23)} ${level.toUpperCase()} ${service}: ${printable(said)}`;
      out.write(`${head}${pairs.join("")}\n`);
      if (err) out.write(plainError(err));
    },
  };
}

function plainValue(value: unknown): string {
  return printable(typeof value === "string" && !/[\s"]/.test(value) ? value : JSON.stringify(value));
}

function plainError(error: DescribedError): string {
  const lines = error.stack === undefined ? [] : [error.stack];
  for (let cause = error.cause; cause; cause = (cause as DescribedError).cause) {
    const { type, message } = cause as DescribedError;
    lines.push(`caused by ${type === undefined ? String(cause) : `${type}: ${message}`}`);
  }
  for (const each of error.errors ?? []) lines.push(`one of several: ${plainValue((each as DescribedError).message)}`);
  // What a caller sent can stand in a message; its own line breaks are those of a stack.
  const shown = lines.flatMap((line) => line.split("\n")).map((line) => `    ${printable(line)}\n`);
  return shown.join("");
}
