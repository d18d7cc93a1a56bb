// The README as a list of steps: each fenced command with what stands behind it as its output.

/**
 * setup: installs and starts (not run from within a test of itself). check: needs a Kafka broker, so only its settings are
 * checked. run: run as it stands.
 */
export type StepKind = "setup" | "check" | "run";

export interface Step {
  kind: StepKind;
  /** Line of the README, for messages. */
  line: number;
  command: string;
  /** Text of the output block that follows; undefined when there is none. */
  expected: string | undefined;
}

const KINDS: Record<string, StepKind> = { sh: "run", "sh setup": "setup", "sh check": "check" };

interface Block {
  info: string;
  line: number;
  text: string;
}

/** Throws for a block whose kind is not known: a typing error must not take a command out of the test. */
export function readSteps(markdown: string): Step[] {
  const blocks = fencedBlocks(markdown);
  const steps: Step[] = [];
  for (const [index, { info, line, text }] of blocks.entries()) {
    if (info === "text") continue;
    const kind = KINDS[info];
    if (kind === undefined) throw new Error(`line ${line}: a block "${info}" is neither a command nor its output`);
    const next = blocks[index + 1];
    steps.push({ kind, line, command: text, expected: next?.info === "text" ? next.text : undefined });
  }
  return steps;
}

function fencedBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | undefined;
  for (const [index, line] of markdown.split("\n").entries()) {
    if (!line.startsWith("```")) {
      if (open) open.text += `${line}\n`;
    } else if (open) {
      blocks.push(open);
      open = undefined;
    } else {
      open = { info: line.slice(3).trim(), line: index + 1, text: "" };
    }
  }
  if (open) throw new Error(`line ${open.line}: the block is not closed`);
  return blocks;
}

/** Line by line; "…" stands for any text within a line. Space at line ends and around the whole does not count. */
export function isExpectedOutput(expected: string, actual: string): boolean {
  const [wanted, got] = [outputLines(expected), outputLines(actual)];
  return wanted.length === got.length && wanted.every((line, index) => isLine(line, got[index] as string));
}

function outputLines(output: string): string[] {
  return output
    .trim()
    .split("\n")
    .map((line) => line.trimEnd());
}

function isLine(wanted: string, got: string): boolean {
  const [first = "", ...rest] = wanted.split("…");
  const last = rest.pop();
  if (last === undefined) return wanted === got;
  if (!got.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = got.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return got.length - last.length >= at && got.endsWith(last);
}

/** A setting as --help explains it. */
export interface HelpSetting {
  /** With the placeholder of its value: `--port <number>`. */
  flag: string;
  /** One letter with its dash; "" where there is none. */
  short: string;
  /** "" where there is none. */
  variable: string;
  defaultText: string;
  meaning: string;
}

/** Settings in a command's --help, in its order. */
export function readHelp(help: string): HelpSetting[] {
  const settings: HelpSetting[] = [];
  const lines = help.split("\n");
  for (const [index, line] of lines.entries()) {
    const head = /^ {2}(--[a-z-]+(?: <[^>]+>)?) *(?:([A-Z][A-Z_]+),?|(-[A-Za-z]))? *(?:default ?(.*))?$/.exec(line);
    if (!head) continue;
    const [, flag = "", variable = "", short = "", defaultText = ""] = head;
    settings.push({ flag, short, variable, defaultText, meaning: lines[index + 1]?.trim() ?? "" });
  }
  return settings;
}
