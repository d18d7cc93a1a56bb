// What the deployment files are compared with: the settings of the services as --help has them, and files as objects.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { helpOf } from "./command.ts";
import { readHelp } from "./readme.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const SERVICES = ["gateway", "relay", "consumer", "stats", "migrate"] as const;

/** Read by the OpenTelemetry SDK and by lib/process/telemetry.ts, and so no settings of a service. */
export const OTEL_NAMES = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"];

/** Which setting says where a service answers /healthz. */
export const HEALTH_PORTS = {
  gateway: "PORT",
  stats: "STATS_PORT",
  relay: "RELAY_HTTP_PORT",
  consumer: "CONSUMER_PORT",
} as const;

export interface ServiceSettings {
  /** Environment name to default, as text. */
  own: ReadonlyMap<string, string>;
  /** Names of other systems for the same: CLICKHOUSE_DSN. */
  aliases: readonly string[];
}

/** Of every service. */
export async function allSettings(): Promise<ReadonlyMap<string, ServiceSettings>> {
  const settings = new Map<string, ServiceSettings>();
  for (const name of SERVICES) settings.set(name, settingsIn(await helpOf(name)));
  return settings;
}

function settingsIn(help: string): ServiceSettings {
  const own = readHelp(help).flatMap(({ variable, defaultText }): [string, string][] =>
    variable ? [[variable, defaultText]] : [],
  );
  return { own: new Map(own), aliases: [...help.matchAll(/^ {2}([A-Z_]+) sets /gm)].map(([, name = ""]) => name) };
}

export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Every document of a YAML file; throws for what is no YAML, a key twice among it. */
export function readYaml<T>(text: string): T[] {
  return parseAllDocuments(text, { merge: true, uniqueKeys: true }).map((document) => {
    if ("errors" in document && document.errors[0]) throw document.errors[0];
    return document.toJS() as T;
  });
}
