// Settings of `millrace pulse`: pulse's names, defaults and corrections, as the settings of the standalone's parts.
import { z } from "zod";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { type HostPort, parseHostPort } from "#lib/config/host-port.ts";
import { flag, oneOf, port, type Setting, secret, settingInfo, text } from "#lib/config/settings.ts";
import { tlsSettings } from "#lib/config/tls-settings.ts";
import { isLoopback } from "#lib/http/loopback.ts";
import { LOG_LEVELS, type LogLevel } from "#lib/process/log.ts";
import { packageVersion } from "#lib/process/version.ts";
import { type StandaloneConfig, standaloneSchema } from "../standalone/config.ts";

const COMMAND = "millrace pulse";
/** What everybody knows keeps nobody out. */
const KNOWN_TOKEN = "secret";
const BEAT_SECONDS_DEFAULT = 30;
const BEAT_SECONDS_MIN = 2;
const AGGREGATE_MINUTES_DEFAULT = 15;
/** Grain of the roll-up. */
const AGGREGATE_MINUTES_STEP = 5;
/** pulse made one at each start, which nobody could check. */
const OWN_CERTIFICATE =
  "--tls-cert and --tls-key, PEM files of your own; none is made here. To make one: openssl req -x509 -newkey ec " +
  "-pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=pulse -out cert.pem -keyout key.pem";
const SECONDS_MAX = 86_400;
const WEEKS_MAX = 5_200;

/** What is not named below has the standalone's default; a key that is absent would be a fault. */
const UNSET = Object.fromEntries(Object.keys(standaloneSchema.shape).map((key) => [key, undefined]));

function setting<T>(placeholder: string, defaultText: string, expected: string, read: (raw: string) => T | undefined) {
  const schema = z.unknown().transform((raw, context): T => {
    const value = read(raw === undefined || raw === null ? defaultText : String(raw).trim());
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
  const shown = defaultText === "" ? {} : { defaultText };
  return schema.register(settingInfo, { expected, placeholder, ...shown }) as Setting<T>;
}

const address = (defaultText: string, usualPort: number) =>
  setting("host:port", defaultText, "host:port, such as 127.0.0.1:8080; without a host it is every address", (raw) => {
    const parsed = parseHostPort(raw, { usualPort, portMin: 0, anyHost: true });
    return typeof parsed === "string" ? undefined : parsed;
  });
const word = () => setting("text", "", "text", (raw) => raw);
const whole = (defaultNumber: number, unit: string, max: number) =>
  setting(unit, String(defaultNumber), `a whole number of ${unit}, at most ${max}`, (raw) => {
    const value = /^[+-]?\d+$/.test(raw) ? Number(raw) : Number.NaN;
    return value <= max && value >= -max ? value : undefined;
  });

const pulseSchema = z
  .object({
    server: flag(false).describe("Run the server. Without it this text is shown."),
    httpListenAddress: address("127.0.0.1:8080", 8080).describe(
      "Address of the history API, alerts, live values, health.",
    ),
    serverListenAddress: address("127.0.0.1:3000", 3000).describe("Address for agents."),
    influxAddress: word().describe("Not used: points are stored in ClickHouse, under --data-dir."),
    kapacitorAddress: word().describe("If set, alert routes are available. Nothing is sent to the address."),
    mistAddress: word().describe("Not used: live values are at GET /watch."),
    mistToken: secret("").describe("Not used."),
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
    corsAllow: text("*").describe("Web origin whose pages may read answers; *: any."),
    insecure: flag(true).describe("Plain HTTP. --insecure=false is HTTPS, with --tls-cert and --tls-key."),
    token: secret(KNOWN_TOKEN).describe(
      "What callers must send as X-AUTH-TOKEN; secret unless set; empty: none is required.",
    ),
    pollInterval: whole(60, "seconds", SECONDS_MAX)
      .refine((seconds) => seconds >= 0, "expected 0 (which means 60) or more seconds")
      .describe("How often agents are polled for their values; 0: 60."),
    beatInterval: whole(BEAT_SECONDS_DEFAULT, "seconds", SECONDS_MAX).describe("How often agents must ping."),
    aggregateInterval: whole(AGGREGATE_MINUTES_DEFAULT, "minutes", 1_440).describe(
      "Window whose means history is made of under --pulse-compat code, a multiple of 5.",
    ),
    retention: whole(1, "weeks", WEEKS_MAX).describe("How long aggregates are kept."),
    version: flag(false).describe("Print the version and exit."),
    ...tlsSettings,
    pulseCompat: oneOf(["readme", "code"], "readme").describe(
      "Which form to answer in where pulse's README and code differ. Programs made for a running pulse expect code.",
    ),
    relayToken: secret().describe("Agents must send it, as `id NAME TOKEN`. Unset: any agent may connect."),
    allowAnonymous: flag(false).describe("Listen beyond loopback without tokens, or with pulse's default token."),
    webhookAllowPrivate: flag(false).describe("Allows webhooks to private, loopback and other special addresses."),
    dataDir: text("./.millrace").describe("Directory of all data."),
    clickhouseHttpPort: port(8123).describe("Port of ClickHouse's HTTP interface, on 127.0.0.1."),
  })
  .superRefine((values, context) => {
    const fault = (key: keyof typeof values, message: string) =>
      context.addIssue({ code: "custom", path: [key], message });
    const files = [values.tlsCert, values.tlsKey].filter((path) => path !== undefined).length;
    if (!values.insecure && files < 2) fault("insecure", `false needs ${OWN_CERTIFICATE}`);
    if (values.insecure && files > 0) fault("insecure", "must be false for --tls-cert and --tls-key to be of use");
    if (values.relayToken !== undefined && !/^\S+$/.test(values.relayToken))
      fault("relayToken", "expected one word without white space: it ends a line");
    if (values.allowAnonymous) return;
    if (!isLoopback(values.httpListenAddress.host) && ["", KNOWN_TOKEN].includes(values.token))
      fault("httpListenAddress", "is beyond loopback: set --token to a secret of your own, or --allow-anonymous");
    if (!isLoopback(values.serverListenAddress.host) && values.relayToken === undefined)
      fault("serverListenAddress", "is beyond loopback: set --relay-token, or --allow-anonymous to let any relay in");
  });

type PulseSettings = z.output<typeof pulseSchema>;

export interface PulseConfig {
  http: HostPort;
  relays: HostPort;
  /** Undefined: none is asked for. */
  token: string | undefined;
  hasAlertRoutes: boolean;
  /** Of everything else; its host is where ClickHouse's interface listens. */
  standalone: StandaloneConfig;
  logLevel: LogLevel;
  /** What is set and means nothing here, or is not taken as it is: a sentence each. */
  warnings: readonly string[];
}

/** pulse's flags of one letter. */
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

const COMMAND_LINE: CommandLine<typeof pulseSchema> = {
  command: COMMAND,
  summary: "pulse's server in one process: history API, agents, alerts. Nothing else to install.",
  schema: pulseSchema,
  forms: ["[settings]"],
  environment: "nothing",
  letters: LETTERS,
};

export type PulseOutcome = { kind: "config"; config: PulseConfig } | TextOutcome;

/** Settings, or what to print and to end with. Reads no environment: pulse has none. */
export function parsePulse(argv: readonly string[], readFile?: (path: string) => string): PulseOutcome {
  const toml = argv.find((each) => /\.toml$/i.test(each));
  if (toml !== undefined) {
    const remedy =
      'write its keys as YAML, "poll-interval: 60" for "poll-interval = 60", into a file that ends in .yaml';
    return usageFault(COMMAND_LINE, `${toml}: TOML is not read: ${remedy}`);
  }
  const outcome = parseCommand(COMMAND_LINE, { argv, env: {}, readFile });
  if (outcome.kind === "text") return outcome;
  const { version, server } = outcome.config;
  if (version) return { kind: "text", text: `pulse ${packageVersion()} (millrace)\n`, exitCode: 0 };
  return server ? { kind: "config", config: translate(outcome.config) } : parsePulse(["--help"]);
}

function translate(settings: PulseSettings): PulseConfig {
  const { beatInterval, aggregateInterval, retention, warnings } = corrected(settings);
  const { httpListenAddress: http, serverListenAddress: relays } = settings;
  const token = settings.token === "" ? undefined : settings.token;
  const standalone = standaloneSchema.parse({
    ...UNSET,
    host: "127.0.0.1",
    statsPort: http.port,
    statsToken: token,
    relayPort: relays.port,
    pollInterval: settings.pollInterval,
    beatInterval,
    aggregateInterval,
    retention,
    ...{ corsAllow: settings.corsAllow, pulseCompat: settings.pulseCompat, relayToken: settings.relayToken },
    ...{ dataDir: settings.dataDir, clickhouseHttpPort: settings.clickhouseHttpPort, logLevel: settings.logLevel },
    ...{ webhookAllowPrivate: settings.webhookAllowPrivate, tlsCert: settings.tlsCert, tlsKey: settings.tlsKey },
  });
  const hasAlertRoutes = settings.kapacitorAddress !== "";
  return { http, relays, token, hasAlertRoutes, standalone, logLevel: settings.logLevel, warnings };
}

/** What pulse mended with a message, and what does not fit here; and what means nothing any more. */
function corrected(settings: PulseSettings) {
  const warnings: string[] = [];
  let { beatInterval, aggregateInterval, retention } = settings;
  if (settings.influxAddress !== "") {
    warnings.push(
      `influx-address is not used: points are stored in ClickHouse, in ${settings.dataDir}; old ones stay where they are`,
    );
  }
  if (settings.kapacitorAddress !== "") {
    warnings.push(
      "kapacitor-address turns the alert routes on and is not called: alerts are evaluated in this process",
    );
  }
  if (settings.mistAddress !== "" || settings.mistToken !== "") {
    warnings.push("mist-address and mist-token are not used: live values are at GET /watch and the Watch call");
  }
  if (beatInterval < 1) {
    beatInterval = BEAT_SECONDS_DEFAULT;
    warnings.push(`beat-interval is below 1: ${beatInterval} seconds are taken`);
  } else if (beatInterval < BEAT_SECONDS_MIN) {
    beatInterval = BEAT_SECONDS_MIN;
    warnings.push(
      `beat-interval is below ${BEAT_SECONDS_MIN}, at which relays reconnect without end: ${beatInterval} seconds are taken`,
    );
  }
  if (aggregateInterval < 1) {
    aggregateInterval = AGGREGATE_MINUTES_DEFAULT;
    warnings.push(`aggregate-interval is below 1: ${aggregateInterval} minutes are taken`);
  } else if (aggregateInterval % AGGREGATE_MINUTES_STEP !== 0) {
    aggregateInterval = Math.ceil(aggregateInterval / AGGREGATE_MINUTES_STEP) * AGGREGATE_MINUTES_STEP;
    warnings.push(
      `aggregate-interval is not a multiple of ${AGGREGATE_MINUTES_STEP}: ${aggregateInterval} minutes are taken`,
    );
  }
  if (retention < 1) {
    retention = 1;
    warnings.push("retention is below 1: 1 week is taken");
  }
  return { beatInterval, aggregateInterval, retention, warnings };
}
