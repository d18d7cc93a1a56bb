// pulse's command line: short flags alone, together, with a value behind them or glued to them.

/** By pulse's letter. */
const LETTERS: Readonly<Record<string, string>> = {
  s: "server",
  H: "http-listen-address",
  S: "server-listen-address",
  i: "influx-address",
  k: "kapacitor-address",
  m: "mist-address",
  M: "mist-token",
  l: "log-level",
  C: "cors-allow",
  I: "insecure",
  t: "token",
  p: "poll-interval",
  b: "beat-interval",
  a: "aggregate-interval",
  r: "retention",
  c: "config-file",
  v: "version",
  h: "help",
};
const BOOLEAN = new Set(["server", "insecure", "version", "help"]);

/** Of a long name, without its dashes; undefined when it has none. */
export function letterOf(name: string): string | undefined {
  return Object.keys(LETTERS).find((letter) => LETTERS[letter] === name);
}

/** The same with long names, `--name=value` and `--name`. What is not known is left as it is, for others to refuse. */
export function withLongNames(argv: readonly string[]): string[] {
  const long: string[] = [];
  const rest = [...argv];
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (/^-[^-]/.test(argument)) {
      long.push(...ofLetters(argument, rest));
      continue;
    }
    long.push(argument);
    // What follows is its value, even if it begins with a dash.
    if (takesNext(argument)) long.push(...rest.splice(0, 1));
  }
  return long;
}

/** `rest` loses what belongs to the last letter as its value. */
function ofLetters(argument: string, rest: string[]): string[] {
  const long: string[] = [];
  for (let at = 1; at < argument.length; at++) {
    const name = LETTERS[argument[at] ?? ""];
    if (name === undefined) return [...long, `-${argument.slice(at)}`];
    const behind = argument.slice(at + 1);
    if (behind.startsWith("=")) return [...long, `--${name}${behind}`];
    if (BOOLEAN.has(name)) {
      long.push(`--${name}`);
      continue;
    }
    const value = behind === "" ? rest.shift() : behind;
    return [...long, value === undefined ? `--${name}` : `--${name}=${value}`];
  }
  return long;
}

function takesNext(argument: string): boolean {
  const name = argument.slice(2);
  return argument.startsWith("--") && letterOf(name) !== undefined && !BOOLEAN.has(name);
}
