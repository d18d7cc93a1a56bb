// The completion scripts of three shells, from the tables of the commands. Words are baked in: a shell that completes starts
// no process.
import type { CommandTable, SettingRow } from "#lib/config/command-table.ts";

/** Completes file names where nothing else is known: behind a flag with a value, and for operands. */
export function bashScript(commands: readonly CommandTable[]): string {
  return `# bash completion for millrace
_millrace() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" sub="" words=""
  if [ "$COMP_CWORD" -gt 2 ]; then sub="\${COMP_WORDS[2]}"; fi
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${commands.map(({ name }) => name).join(" ")} --help --version"
  else
    case "\${COMP_WORDS[1]}" in
${commands.map(bashCommand).join("\n")}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _millrace millrace
`;
}

function bashCommand({ name, settings, subcommands }: CommandTable): string {
  const own = new Set(Object.values(subcommands).flat());
  const shared = settings.filter(({ flag }) => !own.has(flag));
  const flags = (rows: readonly SettingRow[]) => rows.map(({ flag }) => flag).join(" ");
  const leaves = Object.entries(subcommands).map(
    ([sub, only]) => `          ${sub}) words="${[...only, flags(shared)].join(" ")}" ;;`,
  );
  const names = Object.keys(subcommands).join(" ");
  const words =
    names === ""
      ? `words="${flags(settings)}"`
      : `case "$sub" in
${leaves.join("\n")}
          *) words="${names} ${flags(shared)}" ;;
          esac`;
  const choices = settings.flatMap((row) => {
    const values = choicesOf(row);
    return values === undefined ? [] : [`        ${row.flag}) words="${values.join(" ")}" ;;`];
  });
  const valued = settings.filter((row) => row.placeholder !== undefined && choicesOf(row) === undefined);
  return `      ${name}) case "$before" in
${[...choices, ...(valued.length === 0 ? [] : [`        ${valued.map(({ flag }) => flag).join("|")}) return ;;`])].join("\n")}
        *) ${words} ;;
        esac ;;`;
}

/** Through zsh's own layer for bash scripts. */
export function zshScript(commands: readonly CommandTable[]): string {
  return `# zsh completion for millrace
autoload -Uz compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit
${bashScript(commands)}`;
}

export function fishScript(commands: readonly CommandTable[]): string {
  const lines = ["# fish completion for millrace"];
  for (const { name, summary, settings, subcommands } of commands) {
    lines.push(`complete -c millrace -f -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`);
    const seen = `"__fish_seen_subcommand_from ${name}"`;
    const names = Object.keys(subcommands);
    if (names.length > 0) {
      const none = `"__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from ${names.join(" ")}"`;
      lines.push(`complete -c millrace -f -n ${none} -a ${quoted(names.join(" "))}`);
    }
    for (const row of settings) {
      const values = choicesOf(row);
      const value = values === undefined ? "-r" : `-x -a ${quoted(values.join(" "))}`;
      const takes = row.placeholder === undefined ? "" : ` ${value}`;
      lines.push(`complete -c millrace -n ${seen} -l ${row.flag.slice(2)}${takes} -d ${quoted(row.meaning)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Words such as info|warn|error, which --help shows in place of a value. */
function choicesOf({ placeholder }: SettingRow): string[] | undefined {
  return placeholder !== undefined && /^[\w-]+(?:\|[\w-]+)+$/.test(placeholder) ? placeholder.split("|") : undefined;
}

/** fish knows these two escapes within single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
}
