// The frame of every command and service: settings, what is printed instead of running, ownership, failures, exit code.
import { runService } from "./lifecycle.ts";
import { createLogger, type Logger, type LogLevel } from "./log.ts";
import { type Output, ownOutput } from "./output.ts";
import { printable } from "./printable.ts";

type Env = Record<string, string | undefined>;

/** Arguments after the command and the environment to an exit code. */
export type Main = (argv: readonly string[], env: Env, output?: Output) => Promise<number>;

/** What parsing gave instead of something to run: help, settings, faults. */
interface Printed {
  text: string;
  exitCode: 0 | 2;
}

export interface CommandRun extends Output {
  /** One line for a person, beside the results; what it quotes from elsewhere is made harmless. */
  say(line: string): void;
  /** Holds what is to be closed in the end, in reverse order. */
  owner: AsyncDisposableStack;
  env: Env;
}

interface Failure {
  text: string;
  exitCode: number;
}

export interface CommandFrame<Parsed extends object> {
  /** What its error lines begin with. */
  name: string;
  parse(argv: readonly string[], env: Env): Parsed;
  /** Resolves with the exit code. */
  run(asked: Exclude<Parsed, Printed>, run: CommandRun): Promise<number>;
  /** A sentence for failures that are not bugs of this program; with it the command ends with 1 unless it says otherwise. */
  explain?(error: unknown, asked: Exclude<Parsed, Printed>): string | Failure | undefined;
}

export function createCommand<Parsed extends object>(frame: CommandFrame<Parsed>): Main {
  return async (argv, env, output = ownOutput) => {
    const parsed = frame.parse(argv, env);
    if (isPrinted(parsed)) return print(parsed, output);
    const asked = parsed as Exclude<Parsed, Printed>;
    const say = (line: string) => output.err(`${printable(line)}\n`);
    try {
      await using owner = new AsyncDisposableStack();
      return await frame.run(asked, { ...output, say, owner, env });
    } catch (error) {
      const explained = frame.explain?.(error, asked);
      if (explained === undefined) throw error;
      const { text, exitCode } = typeof explained === "string" ? { text: explained, exitCode: 1 } : explained;
      say(`${frame.name}: ${text}`);
      return exitCode;
    }
  };
}

export interface ServiceRun extends Output {
  logger: Logger;
  env: Env;
  /** Holds what is to be closed in the end, in reverse order. */
  owner: AsyncDisposableStack;
}

interface Configured {
  config: { logLevel: LogLevel };
}

type ConfigOf<Parsed> = Extract<Parsed, Configured>["config"];

export interface ServiceFrame<Parsed extends Configured | Printed> {
  /** As in the logs. */
  name: string;
  parse(argv: readonly string[], env: Env): Parsed;
  stopTimeoutMs(config: ConfigOf<Parsed>): number;
  /** `failed` rejects when the service can go on no longer. */
  start(
    config: ConfigOf<Parsed>,
    run: ServiceRun,
  ): Promise<{ readonly failed?: Promise<never> | undefined } | undefined>;
}

export function createService<Parsed extends Configured | Printed>(frame: ServiceFrame<Parsed>): Main {
  return async (argv, env, output = ownOutput) => {
    const parsed: Configured | Printed = frame.parse(argv, env);
    if (isPrinted(parsed)) return print(parsed, output);
    const config = parsed.config as ConfigOf<Parsed>;
    const logger = createLogger({ level: config.logLevel, service: frame.name });
    return runService({
      name: frame.name,
      logger,
      stopTimeoutMs: frame.stopTimeoutMs(config),
      async start() {
        await using owner = new AsyncDisposableStack();
        const started = await frame.start(config, { ...output, logger, env, owner });
        const owned = owner.move();
        return { failed: started?.failed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
      },
    });
  };
}

function isPrinted(parsed: object): parsed is Printed {
  return "exitCode" in parsed;
}

function print({ text, exitCode }: Printed, output: Output): number {
  const lines = text.split("\n").map(printable).join("\n");
  (exitCode === 0 ? output.out : output.err)(lines);
  return exitCode;
}
