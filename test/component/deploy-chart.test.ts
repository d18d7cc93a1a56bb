// k8s/chart without Helm: values, schema, ports and names against each other and the code. `npm run check:helm` renders it.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { packageVersion } from "#lib/process/version.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { allSettings, HEALTH_PORTS, ROOT, read, readYaml, type ServiceSettings } from "../kit/deploy.ts";

let settings: ReadonlyMap<string, ServiceSettings>;

beforeAll(async () => {
  settings = await allSettings();
});

describe("k8s/chart", () => {
  const templates = readdirSync(join(ROOT, "k8s/chart/templates"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => read(join(entry.parentPath, entry.name).slice(ROOT.length)))
    .join("\n");

  it("is of this version", () => {
    const [chart] = readYaml<{ version: string; appVersion: string }>(read("k8s/chart/Chart.yaml"));
    expect(chart).toMatchObject({ version: packageVersion(), appVersion: packageVersion() });
  });

  it("uses only values that there are, and all of them are in the schema", () => {
    const [values] = readYaml<Record<string, unknown>>(read("k8s/chart/values.yaml"));
    const schema = JSON.parse(read("k8s/chart/values.schema.json")) as { properties: Record<string, unknown> };
    const at = (path: string) =>
      path.split(".").reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], values);
    const used = [...templates.matchAll(/\$?\.Values\.([\w.]+)/g)].map(([, path = ""]) => path);
    const optional = ["config.ALLOW_ANONYMOUS"];
    expect(used.length).toBeGreaterThan(20);
    expect(used.filter((path) => at(path) === undefined && !optional.includes(path))).toEqual([]);
    expect(Object.keys(values ?? {}).filter((key) => !Object.hasOwn(schema.properties, key))).toEqual([]);
  });

  it("has the ports of the services", () => {
    const ports = new Map(
      [...templates.matchAll(/"(\w+)" \(dict "ports" \(dict (.*?)\) "health" "(\w+)"\)/g)].map(
        ([, name = "", list = "", health = ""]) => [name, new RegExp(`"${health}" (\\d+)`).exec(list)?.[1]],
      ),
    );
    const expected = Object.entries(HEALTH_PORTS).map(([name, setting]) => [
      name,
      settings.get(name)?.own.get(setting),
    ]);
    expect(Object.fromEntries(ports)).toEqual(Object.fromEntries(expected));
  });

  it("probes over HTTPS the services whose health is on the port that TLS_CERT is for, and no others", () => {
    const [, list = ""] = /has \.name \(list ([^)]*)\)\) \}\}HTTPS/.exec(templates) ?? [];
    const named = [...list.matchAll(/"(\w+)"/g)].map(([, name]) => name);
    const own = [...settings].filter(([, each]) => each.own.has("TLS_CERT")).map(([name]) => name);
    expect(named.sort()).toEqual(own.filter((name) => Object.hasOwn(HEALTH_PORTS, name)).sort());
    const probes = [...templates.matchAll(/httpGet: \{ .* \}/g)].map(([probe]) => probe);
    expect(probes).toHaveLength(3);
    expect(probes.filter((probe) => !probe.includes("scheme: {{ $scheme }}"))).toEqual([]);
  });

  it("mounts the files that it names for Kafka, by settings that every service reads", () => {
    const files = [...templates.matchAll(/name: (KAFKA_\w+)\n {2}value: (\S+)\/[\w.]+$/gm)];
    expect(files.map(([, name]) => name)).toEqual([
      "KAFKA_SSL_CA",
      "KAFKA_SSL_CERT",
      "KAFKA_SSL_KEY",
      "KAFKA_OAUTH_TOKEN_FILE",
    ]);
    for (const [, name = "", directory = ""] of files) {
      expect([...settings].filter(([, { own }]) => !own.has(name)).map(([service]) => service)).toEqual([]);
      expect(templates).toContain(`name: ${directory.split("/").at(-1)}\n`);
    }
  });

  it("names a cluster by the settings that services read, in their form", () => {
    const [values] = readYaml<{ clickhouse: { cluster: string; shards: string[][] } }>(
      read("k8s/chart/ci/cluster.yaml"),
    );
    expect(templates).toContain("CLICKHOUSE_CLUSTER: {{ . | quote }}");
    expect(templates).toContain('CLICKHOUSE_SHARD_URLS: {{ join "," $shards | quote }}');
    const { shards = [] } = values?.clickhouse ?? {};
    const text = shards.map((replicas) => replicas.join("|")).join(",");
    expect(clickhouseSettings.clickhouseShardUrls.parse(text)).toEqual(shards);
    expect(shards.flat().length).toBeGreaterThan(shards.length);
  });

  it.each(readdirSync(join(ROOT, "k8s/chart/ci")))("%s names settings that are read", (file) => {
    const [values] = readYaml<Record<string, { config?: object } & object>>(read(`k8s/chart/ci/${file}`));
    const names = new Set([...settings.values()].flatMap(({ own }) => [...own.keys()]));
    const given = [values?.config, values?.secret, ...Object.values(values ?? {}).map((each) => each.config)].flatMap(
      (each) => Object.keys(each ?? {}),
    );
    expect(given.filter((name) => !names.has(name))).toEqual([]);
  });
});
