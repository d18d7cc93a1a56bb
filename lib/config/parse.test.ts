import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { type ConfigInput, parseConfig } from "./parse.ts";
import { argument, bytes, count, csv, duration, fixed, flag, httpUrl, oneOf, port, secret, text } from "./settings.ts";

const schema = z
  .object({
    host: text("0.0.0.0").describe("Address to listen on."),
    port: port(8080).describe("Port to listen on."),
    pollInterval: duration("1m", { bareUnit: "s", min: 1_000 }),
    flushInterval: duration("1s", { max: 60_000 }),
    batchBytes: bytes("8MB"),
    batchSize: count(100, { min: 1, max: 50_000 }),
    migrateOnStart: flag(true),
    allowAnonymous: flag(false),
    publicApiKeys: csv([], { secret: true }),
    clickhouseUrl: httpUrl("http://localhost:8123"),
    clickhouseUser: text("default"),
    clickhousePassword: secret(""),
    clickhouseDatabase: text("millrace"),
    logLevel: oneOf(["debug", "info", "warn"], "info"),
    kafkaBrokers: csv(),
    kafkaSaslPassword: secret(),
  })
  .superRefine((config, context) => {
    if (config.batchSize > config.batchBytes) {
      context.addIssue({ code: "custom", path: ["batchSize"], message: "is more rows than BATCH_BYTES has bytes" });
    }
  });

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-config-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function parse(argv: string[], env: ConfigInput["env"] = {}) {
  return parseConfig(schema, { argv, env, command: "millrace gateway", summary: "takes events in" });
}

function configOf(argv: string[], env: ConfigInput["env"] = {}) {
  const outcome = parse(argv, env);
  if (outcome.kind !== "config") throw new Error(`expected a configuration, got ${outcome.text}`);
  return outcome.config;
}

function faultsOf(argv: string[], env: ConfigInput["env"] = {}): string[] {
  const outcome = parse(argv, env);
  if (outcome.kind !== "faults") throw new Error(`expected faults, got ${outcome.kind}`);
  return outcome.faults;
}

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe("sources", () => {
  it("gives every default when nothing is set", () => {
    expect(configOf([])).toEqual({
      host: "0.0.0.0",
      port: 8080,
      pollInterval: 60_000,
      flushInterval: 1_000,
      batchBytes: 8_000_000,
      batchSize: 100,
      migrateOnStart: true,
      allowAnonymous: false,
      publicApiKeys: [],
      clickhouseUrl: "http://localhost:8123",
      clickhouseUser: "default",
      clickhousePassword: "",
      clickhouseDatabase: "millrace",
      logLevel: "info",
      kafkaBrokers: [],
      kafkaSaslPassword: undefined,
    });
  });

  it("puts flag over environment over file over default", () => {
    const path = file("layers.yaml", "port: 1\nbatch-size: 2\nhost: file\n");
    const config = configOf(["--config-file", path, "--port", "3"], { PORT: "4", BATCH_SIZE: "5" });
    expect(config).toMatchObject({ port: 3, batchSize: 5, host: "file", clickhouseUser: "default" });
  });

  it("takes the file named by CONFIG_FILE, and --config-file over it", () => {
    const fromEnv = file("env.json", '{"port": 1}');
    const fromFlag = file("flag.json", '{"port": 2}');
    expect(configOf([], { CONFIG_FILE: fromEnv }).port).toBe(1);
    expect(configOf([`--config-file=${fromFlag}`], { CONFIG_FILE: fromEnv }).port).toBe(2);
  });

  it("reads a JSON file and a YAML file alike", () => {
    const json = file(
      "all.json",
      '{"kafka-brokers": ["a:1", "b:2"], "migrate-on-start": false, "flush-interval": "2s", "host": null}',
    );
    const yaml = file("all.yaml", "kafka-brokers: [a:1, b:2]\nmigrate-on-start: no\nflush-interval: 2s\n");
    const expected = { kafkaBrokers: ["a:1", "b:2"], migrateOnStart: false, flushInterval: 2_000, host: "0.0.0.0" };
    expect(configOf(["--config-file", json])).toMatchObject(expected);
    expect(configOf(["--config-file", yaml])).toMatchObject(expected);
  });

  it("accepts an empty file", () => {
    expect(configOf(["--config-file", file("empty.yaml", "# nothing\n")]).port).toBe(8080);
  });

  it("understands --x, --no-x and --x=false for booleans", () => {
    expect(configOf(["--allow-anonymous", "--no-migrate-on-start"])).toMatchObject({
      allowAnonymous: true,
      migrateOnStart: false,
    });
    expect(configOf(["--migrate-on-start=false"]).migrateOnStart).toBe(false);
  });

  it("lets the last of several flags win", () => {
    expect(configOf(["--port", "1", "--port=2"]).port).toBe(2);
  });

  it("treats an empty environment variable as unset", () => {
    expect(configOf([], { PORT: "", CLICKHOUSE_USER: "" })).toMatchObject({ port: 8080, clickhouseUser: "default" });
  });

  it("looks at no variable but those of its settings", () => {
    const seen: string[] = [];
    const env = new Proxy<Record<string, string | undefined>>(
      {},
      { get: (_, name) => void seen.push(String(name)) as undefined },
    );
    configOf([], env);
    expect(seen).toContain("PORT");
    expect(
      seen.filter(
        (name) =>
          !/^(HOST|PORT|HTTP_|CONFIG_FILE|POLL|FLUSH|BATCH|MIGRATE|ALLOW|PUBLIC|CLICKHOUSE|LOG|KAFKA)/.test(name),
      ),
    ).toEqual([]);
  });
});

describe("faults", () => {
  it("are reported all at once, each as the user spelled it", () => {
    const path = file("faulty.yaml", "batch-size: many\nhots: x\n");
    const faults = faultsOf(["--port=http", "--config-file", path, "--flsh-interval", "1s"], {
      BATCH_BYTES: "8 quarts",
    });
    expect(faults).toEqual([
      "--flsh-interval: unknown setting. Did you mean --flush-interval?",
      `hots (in ${path}): unknown setting. Did you mean host?`,
      "--port=http: expected a port number, 0 to 65535",
      expect.stringMatching(/^BATCH_BYTES=8 quarts: expected a size such as 1048576, 8MB or 8MiB/),
      `batch-size: many (in ${path}): expected a whole number, 1 to 50000`,
    ]);
  });

  it("end with exit code 2 and a text that names the way to help", () => {
    const outcome = parse(["--port", "99999"]);
    expect(outcome).toMatchObject({ kind: "faults", exitCode: 2 });
    expect(outcome.kind === "faults" && outcome.text).toBe(
      'millrace gateway: 1 setting is not usable:\n  --port=99999: expected a port number, 0 to 65535\n"millrace gateway --help" lists all settings.\n',
    );
  });

  it("between fields are reported with the others", () => {
    const faults = faultsOf(["--batch-size", "50", "--batch-bytes", "10", "--port", "x"]);
    expect(faults).toEqual([
      "--port=x: expected a port number, 0 to 65535",
      "--batch-size=50: is more rows than BATCH_BYTES has bytes",
    ]);
  });

  it("between fields are not reported for a field that is at fault itself", () => {
    expect(faultsOf(["--batch-size", "0", "--batch-bytes", "10"])).toHaveLength(1);
  });

  it.each([
    ["a secret", ["--clickhouse-password"], {}, "--clickhouse-password: needs a value"],
    ["a flag before another flag", ["--host", "--port", "1"], {}, "--host: needs a value"],
    ["a word", ["gateway"], {}, "gateway: unexpected argument"],
    ["--no- for a setting that is no boolean", ["--no-port"], {}, "--no-port: unknown setting"],
    ["--no-x=value", ["--no-migrate-on-start=1"], {}, "--no-migrate-on-start: takes no value"],
    ["a value of --check-config", ["--check-config=maybe"], {}, "--check-config: expected true or false"],
    [
      "a file that is not there",
      ["--config-file", "/nonexistent/m.yaml"],
      {},
      "/nonexistent/m.yaml: the configuration file cannot be read: ENOENT",
    ],
  ])("name the remedy for %s", (_, argv, env, expected) => {
    expect(faultsOf(argv, env)[0]).toContain(expected);
  });

  it("say so when the file is no mapping or no YAML, without quoting it", () => {
    expect(faultsOf(["--config-file", file("list.yaml", "- hunter2")])[0]).toContain("expected a mapping of settings");
    const broken = faultsOf(["--config-file", file("broken.json", '{"clickhouse-password": hunter2"')])[0];
    expect(broken).toContain("cannot be read");
    expect(broken).not.toContain("hunter2");
  });

  it.each(["!hunter2", "*hunter2", ">hunter2", "@hunter2", "{hunter2"])(
    "say so when %s stands without quotes, without quoting it or reading it as something else",
    (password) => {
      const [fault, ...others] = faultsOf([
        "--config-file",
        file("sign.yaml", `a: 1\nclickhouse-password: ${password}\n`),
      ]);
      expect(others).toEqual([]);
      expect(fault).toMatch(/cannot be read: .* in quotes$/);
      expect(fault).not.toContain("hunter2");
    },
  );

  it("never show a secret, also not one inside an address", () => {
    const path = file("secret.yaml", "clickhouse-password: 12345\npublic-api-keys: {a: hunter2}\n");
    const faults = faultsOf(["--config-file", path], {
      CLICKHOUSE_URL: "http://app:hunter2@db:8123",
      KAFKA_SASL_PASSWORD: "fine",
    });
    expect(faults).toHaveLength(3);
    expect(faults.join("\n")).not.toMatch(/hunter2|12345/);
    expect(faults[1]).toBe(
      "CLICKHOUSE_URL=http://<redacted>@db:8123: expected an address without user, password, ? or #; give those by their own settings",
    );
    expect(faults[2]).toContain("clickhouse-password: <redacted>");
  });
});

it.each([
  ["http://default:pa/ss@host:8123"],
  ["http://default:p@ss@host:8123"],
  ["http://default:pass word@host:8123"],
  ["http://default:p?s#s@host:8123"],
  ["default:pass@host:8123"],
  ["tcp://default:pass//word@host:9000"],
])("a password in CLICKHOUSE_URL is never shown: %s", (url) => {
  const [fault, ...others] = faultsOf([], { CLICKHOUSE_URL: url });
  expect(others).toEqual([]);
  expect(fault).toMatch(/^CLICKHOUSE_URL=(?:\w+:\/\/)?<redacted>@host:\d+: expected an address/);
});

describe("quotation marks of an env file", () => {
  it.each(["PUBLIC_API_KEYS", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_USER", "PORT", "CLICKHOUSE_URL"])(
    "around %s are refused by name",
    (name) => {
      const faults = faultsOf([], { [name]: '"hunter2"' });
      expect(faults).toEqual([expect.stringMatching(new RegExp(`^${name}=.*: begins and ends with a quotation mark`))]);
    },
  );

  it("are taken from a file, which says what it means", () => {
    const path = file("quoted.yaml", "clickhouse-user: '\"app\"'\n");
    expect(configOf(["--config-file", path]).clickhouseUser).toBe('"app"');
  });
});

describe("other names", () => {
  it.each([
    [
      "http://db:8123?user=app&password=p%40ss",
      {
        clickhouseUrl: "http://db:8123",
        clickhouseUser: "app",
        clickhousePassword: "p@ss",
        clickhouseDatabase: "millrace",
      },
    ],
    [
      "http://app:p%40ss@db:8123/stats",
      {
        clickhouseUrl: "http://db:8123",
        clickhouseUser: "app",
        clickhousePassword: "p@ss",
        clickhouseDatabase: "stats",
      },
    ],
    ["https://db:8443", { clickhouseUrl: "https://db:8443", clickhouseUser: "default", clickhousePassword: "" }],
  ])("takes CLICKHOUSE_DSN %s apart", (dsn, expected) => {
    expect(configOf([], { CLICKHOUSE_DSN: dsn })).toMatchObject(expected);
  });

  it("takes HTTP_PORT for PORT, as variable, flag and key", () => {
    expect(configOf([], { HTTP_PORT: "9000" }).port).toBe(9000);
    expect(configOf(["--http-port", "9000"]).port).toBe(9000);
    expect(configOf(["--config-file", file("alias.yaml", "http-port: 9000")]).port).toBe(9000);
  });

  it("spells a fault with the name that was used", () => {
    expect(faultsOf([], { HTTP_PORT: "x" })).toEqual(["HTTP_PORT=x: expected a port number, 0 to 65535"]);
  });

  it("refuses two names with different values and accepts equal ones", () => {
    expect(configOf([], { HTTP_PORT: "9000", PORT: "9000" }).port).toBe(9000);
    expect(faultsOf([], { HTTP_PORT: "9000", PORT: "9001" })).toEqual([
      "PORT=9001 and HTTP_PORT=9000: two names of one setting, with different values; set only PORT",
    ]);
    const faults = faultsOf([], { CLICKHOUSE_DSN: "http://app:hunter2@db:8123", CLICKHOUSE_PASSWORD: "hunter3" });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/CLICKHOUSE_PASSWORD=<redacted> and CLICKHOUSE_DSN=<redacted>: two names/);
  });

  it("lets a flag overrule an alias in the environment", () => {
    expect(configOf(["--port", "1"], { HTTP_PORT: "2" }).port).toBe(1);
  });

  it.each([
    ["tcp://db:9000", "expected the HTTP address of ClickHouse"],
    ["http://db:8123?user=a&compress=1", "does not know the parameter compress"],
    ["http://db:8123?constructor=1", "does not know the parameter constructor"],
    ["http://a@db:8123?user=b", "gives user twice"],
    ["http://%zz:x@db:8123", "written as %25"],
  ])("refuses CLICKHOUSE_DSN %s", (dsn, expected) => {
    expect(faultsOf([], { CLICKHOUSE_DSN: dsn })[0]).toContain(expected);
  });

  it("does not know an alias where the schema has no such setting", () => {
    const outcome = parseConfig(z.object({ host: text("a") }), {
      argv: ["--http-port", "1"],
      env: {},
      command: "millrace x",
      summary: "x",
    });
    expect(outcome).toMatchObject({
      kind: "faults",
      faults: [expect.stringContaining("--http-port: unknown")],
    });
  });
});

describe("help and check", () => {
  it("lists each setting with variable, default and description, and no secret", () => {
    const outcome = parse(["--port", "broken", "-h"]);
    expect(outcome).toMatchObject({ kind: "help", exitCode: 0 });
    const help = outcome.kind === "help" ? outcome.text : "";
    for (const key of Object.keys(schema.shape)) {
      expect(help).toContain(`--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
    }
    expect(help).toMatch(/--port <number> +PORT, default 8080\n +Port to listen on\./);
    expect(help).toMatch(/--migrate-on-start +MIGRATE_ON_START, default true/);
    expect(help).toContain("CLICKHOUSE_DSN sets CLICKHOUSE_URL, CLICKHOUSE_USER");
  });

  it("--check-config says ok without faults and reports them otherwise", () => {
    expect(parse(["--check-config"])).toEqual({ kind: "checked", text: "configuration ok\n", exitCode: 0 });
    expect(parse(["--check-config", "--port", "x"])).toMatchObject({ kind: "faults", exitCode: 2 });
  });
});

it("takes what one call is to do from its arguments only", () => {
  const schema = z.object({ repair: argument() });
  const parse = (argv: string[], env: Record<string, string>) =>
    parseConfig(schema, { argv, env, command: "millrace test", summary: "" });
  expect(parse([], { REPAIR: "true" })).toMatchObject({ kind: "config", config: { repair: false } });
  expect(parse(["--repair"], {})).toMatchObject({ kind: "config", config: { repair: true } });
  expect(parse(["--help"], {})).toMatchObject({ text: expect.not.stringContaining("REPAIR") });
});

it("--help shows what people set first, and --help all the rest below it", () => {
  const rare = Object.fromEntries(
    Array.from({ length: 40 }, (_, at) => [
      `rare${String.fromCharCode(97 + (at % 26))}${at > 25 ? "x" : ""}`,
      count(at),
    ]),
  );
  const many = z.object({ port: port(8080), once: argument(), ...rare });
  const help = (...argv: string[]) =>
    parseConfig(many, { argv, env: {}, command: "millrace test", summary: "" }) as { text: string };
  expect(help("--help").text).toMatch(
    /--port[\s\S]*--once[\s\S]*--help\n[\s\S]*\n40 more, .*: millrace test --help all\n/,
  );
  expect(help("--help").text).not.toContain("--rare");
  expect(help("--help", "all").text).toMatch(/--port[\s\S]*--help\n[\s\S]*Leave these[\s\S]*--rarea/);
  expect(help("--help=all").text).toBe(help("-h", "all").text);
});

it("what is no setting any more is a constant, and a flag or key of its name is told so", () => {
  const schema = z.object({ port: port(8080), maxNames: fixed(10_000) });
  const read = (argv: string[], env = {}, text = "") =>
    parseConfig(schema, { argv, env, command: "millrace test", summary: "", readFile: () => text });
  expect(read([], { MAX_NAMES: "5" })).toMatchObject({ kind: "config", config: { maxNames: 10_000 } });
  expect(read(["--max-names", "5"])).toMatchObject({
    faults: ["--max-names=5: is no setting any more: it is always 10000"],
  });
  expect(read(["--config-file", "f.yaml"], {}, "max-names: 5\n")).toMatchObject({
    faults: ["max-names: 5 (in f.yaml): is no setting any more: it is always 10000"],
  });
  for (const asked of ["--help", "--print-config"]) {
    expect(read([asked])).toMatchObject({ text: expect.not.stringMatching(/max-names/) });
  }
});
