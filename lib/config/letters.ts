// Flags of one letter, alone, together, and with a value behind them or glued to them: "-p 5", "-p5", "-sp=5".

/** By letter: the setting it stands for, in kebab-case. */
export type Letters = Readonly<Record<string, string>>;

/**
 * The same with long names, `--name=value` and `--name`. `takesValue` says of `--name` whether a value belongs to it: what
 * follows such a flag is its value, even if it begins with a dash. What is not known is left as it is, to be refused.
 */
export function withLongNames(
  argv: readonly string[],
  letters: Letters,
  takesValue: (flag: string) => boolean,
): string[] {
  const long: string[] = [];
  const rest = [...argv];
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === "--") return [...long, argument, ...rest];
    if (/^-[^-]/.test(argument)) long.push(...ofLetters(argument, rest, letters, takesValue));
    else long.push(argument, ...(takesValue(argument) ? rest.splice(0, 1) : []));
  }
  return long;
}

/** `rest` loses what belongs to the last letter as its value. */
function ofLetters(
  argument: string,
  rest: string[],
  letters: Letters,
  takesValue: (flag: string) => boolean,
): string[] {
  const long: string[] = [];
  for (let at = 1; at < argument.length; at++) {
    const name = letters[argument[at] ?? ""];
    if (name === undefined) return [...long, `-${argument.slice(at)}`];
    const behind = argument.slice(at + 1);
    if (behind.startsWith("=")) return [...long, `--${name}${behind}`];
    if (!takesValue(`--${name}`)) {
      long.push(`--${name}`);
      continue;
    }
    const value = behind === "" ? rest.shift() : behind;
    return [...long, value === undefined ? `--${name}` : `--${name}=${value}`];
  }
  return long;
}
