// `millrace completion` and `millrace init`: what they write is made of the commands' own settings, and works.
import { execFileSync, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { COMMANDS } from "../../services/commands.ts";
import { callCommand, helpOf, mainOf } from "../kit/command.ts";
import { readHelp } from "../kit/readme.ts";
import { temporaryDirectory } from "../kit/standalone.ts";

/** What services do not go without. */
const REQUIRED = { KAFKA_BROKERS: "localhost:9092", ALLOW_ANONYMOUS: "true", MILLRACE_SERVER: "h:1", MILLRACE_ID: "i" };

const call = async (command: string, ...args: string[]) => callCommand(await mainOf(command), args, {});
const script = async (shell: string) => {
  const { code, out, err } = await call("completion", shell);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
};

describe("millrace completion", () => {
  it("bash: completes commands, subcommands, flags and words, and leaves files to the shell", async () => {
    const bash = await script("bash");
    const asked: [line: string, answer: string][] = [
      ["gat", "gateway"],
      ["gateway --kafka-sasl-mech", "--kafka-sasl-mechanism"],
      ["gateway --log-level e", "error"],
      ["gateway --port ", ""],
      ["start --config-file ", ""],
      ["relays fl", "flush"],
      ["relays override --int", "--interval"],
      ["relays flush --int", ""],
      ["verify --rep", "--repair"],
      ["nonsense ", ""],
    ];
    const questions = asked.map(([line]) => {
      const words = ["millrace", ...line.split(" ")];
      return `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _millrace; echo "\${COMPREPLY[*]}"`;
    });
    const answers = execFileSync("bash", ["-c", [bash, ...questions].join("\n")], { encoding: "utf8" });
    expect(answers.split("\n").slice(0, -1)).toEqual(asked.map(([, answer]) => answer));
  });

  it.each(["bash", "zsh", "fish"])("%s: knows every command and every flag", async (shell) => {
    const text = await script(shell);
    for (const name of Object.keys(COMMANDS)) {
      expect(text).toMatch(new RegExp(`\\b${name}\\b`));
      const flags = readHelp(await helpOf(name)).map(({ flag }) => flag.split(" ")[0] ?? "");
      const known = (flag: string) => text.includes(shell === "fish" ? ` -l ${flag.slice(2)} ` : flag);
      expect(flags.filter((flag) => !known(flag))).toEqual([]);
    }
    // Where the shell is installed, it says what it thinks of the script.
    const { error, status, stderr } = spawnSync(shell, ["-n", "-c", text], { encoding: "utf8" });
    if (error === undefined) expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  it("asks which shell, and refuses others", async () => {
    expect(await call("completion")).toMatchObject({ code: 2, out: "" });
    expect((await call("completion", "tcsh")).err).toContain("unknown command tcsh");
  });
});

describe("millrace init", () => {
  it.each(["start", "gateway", "consumer", "relay", "stats", "migrate", "verify", "pulse", "agent"])(
    "%s: writes a file that changes nothing, also with all its lines in use",
    async (command) => {
      await using folder = await temporaryDirectory();
      const file = join(folder.path, "millrace.yaml");
      expect(await call("init", command, "--file", file)).toMatchObject({ code: 0, err: "" });
      const main = await mainOf(command);
      const config = async (...args: string[]) => {
        const { code, out } = await callCommand(main, [...args, "--print-config"], REQUIRED);
        expect(code).toBe(0);
        // Where a value is from differs, and that a secret is named at all.
        return out
          .replaceAll(/ # .*$/gm, "")
          .replaceAll("<redacted>", "unset")
          .split("\n")
          .slice(1);
      };
      expect(await config("--config-file", file)).toEqual(await config());
      const text = await readFile(file, "utf8");
      const inUse = text.replaceAll(/^# ([a-z][a-z0-9-]*:(?: .*)?)$/gm, "$1");
      expect(inUse.split("\n").filter((line) => /^[a-z-]+:/.test(line)).length).toBeGreaterThan(5);
      await writeFile(file, inUse);
      expect(await config("--config-file", file)).toEqual(await config());
    },
  );

  it("leaves a file that exists as it is, and refuses unknown commands", async () => {
    await using folder = await temporaryDirectory();
    const file = join(folder.path, "millrace.yaml");
    await call("init", "--file", file);
    const before = await readFile(file, "utf8");
    expect(await call("init", "gateway", "--file", file)).toMatchObject({
      code: 1,
      err: `init: ${file} exists already: remove it, or name another one with --file\n`,
    });
    expect(await readFile(file, "utf8")).toBe(before);
    expect((await call("init", "gatway")).err).toBe("init: there is no command gatway. Did you mean gateway?\n");
  });
});
