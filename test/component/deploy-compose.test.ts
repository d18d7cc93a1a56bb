// docker-compose.yml against the code: no Docker here, so everything in it that a name or a number ties to something else
// is followed to its other end. Every check is shown to fail.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { packageVersion } from "#lib/process/version.ts";
import { callCommand, mainOf } from "../kit/command.ts";
import {
  allSettings,
  HEALTH_PORTS,
  OTEL_NAMES,
  ROOT,
  read,
  readYaml,
  SERVICES,
  type ServiceSettings,
} from "../kit/deploy.ts";

interface Service {
  image?: string;
  command?: string[];
  container_name?: string;
  environment?: Record<string, string | null>;
  ports?: string[];
  volumes?: string[];
  restart?: string;
  healthcheck?: { test?: string[]; disable?: boolean };
  depends_on?: Record<string, { condition: string }>;
  mem_limit?: string;
}

interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, null>;
}

interface Scrapes {
  scrape_configs: {
    job_name: string;
    dns_sd_configs?: { names: string[]; port: number }[];
    static_configs?: { targets: string[] }[];
  }[];
}

interface Stack {
  compose: string;
  build: string;
  example: string;
  prometheus: string;
}

/** Fixed inside a container: the address, the ports (published under the names of the settings), and no files. */
const NOT_HANDED_ON = new Set([
  "HOST",
  "PORT",
  "STATS_PORT",
  "RELAY_PORT",
  "RELAY_HTTP_PORT",
  "CONSUMER_PORT",
  "CONFIG_FILE",
]);
/** The images have nothing in them that could ask. */
const WITHOUT_HEALTHCHECK = ["migrate", "otel-collector", "jaeger"];
/** Of the contract with callers, and the relay's. */
const PUBLISHED = {
  gateway: [8080],
  stats: [8081],
  relay: [3001, 8082],
  clickhouse: [8123],
  prometheus: [9090],
  grafana: [3000],
};
const MEMORY_MIB_MAX = 4096;

const stack: Stack = {
  compose: read("docker-compose.yml"),
  build: read("docker-compose-build.yml"),
  example: read(".env.example"),
  prometheus: read("deploy/prometheus.yml"),
};
let settings: ReadonlyMap<string, ServiceSettings>;

beforeAll(async () => {
  settings = await allSettings();
});

/** `${NAME:-default}` and `${NAME-default}` with nothing set. */
function interpolated(text: string): string {
  return text.replaceAll(/\$\{(\w+)(?::?-([^}]*))?\}/g, (_, _name, usual = "") => usual);
}

function stackFaults({ compose: text, build, example, prometheus }: Stack): string[] {
  const [compose] = readYaml<Compose>(text);
  if (!compose) return ["no compose file"];
  const services = Object.entries(compose.services);
  return [
    ...services.flatMap(([name, service]) => serviceFaults(name, service, compose)),
    ...environmentFaults(compose),
    ...exampleFaults(text, compose, example),
    ...memoryFaults(compose),
    ...volumeFaults(compose),
    ...buildFaults(build, compose),
    ...scrapeFaults(prometheus, compose),
  ];
}

function serviceFaults(name: string, service: Service, compose: Compose): string[] {
  const image = interpolated(service.image ?? "");
  const published = (service.ports ?? []).map((port) => interpolated(port).split(":"));
  const wanted = (PUBLISHED as Record<string, number[]>)[name] ?? [];
  const hasHealth = service.healthcheck?.test !== undefined;
  return [
    ...(/:v?\d+\.\d+\.\d+[\w.-]*$/.test(image) ? [] : [`${name}: image ${image} is not pinned`]),
    ...(service.container_name === undefined ? [] : [`${name}: container_name forbids --scale`]),
    ...published
      .filter(([host]) => host !== "127.0.0.1")
      .map((port) => `${name}: ${port.join(":")} is not on loopback`),
    ...wanted
      .filter((port) => !published.some(([, from, to]) => from === String(port) && to === String(port)))
      .map((port) => `${name}: port ${port} is not published`),
    ...(hasHealth || WITHOUT_HEALTHCHECK.includes(name) ? [] : [`${name}: no health check`]),
    ...Object.entries(service.depends_on ?? {}).flatMap(([other, { condition }]) => {
      const target = compose.services[other];
      if (!target) return [`${name}: depends on ${other}, which is not a service`];
      if (condition === "service_healthy" && !target.healthcheck?.test) return [`${name}: ${other} has no health`];
      if (condition === "service_completed_successfully" && target.restart !== "no")
        return [`${other} never completes`];
      return [];
    }),
  ];
}

function environmentFaults({ services }: Compose): string[] {
  return SERVICES.flatMap((name) => {
    const service = services[name];
    const known = settings.get(name);
    if (!service || !known) return [`there is no service ${name}`];
    const given = Object.keys(service.environment ?? {});
    const names = new Set([...known.own.keys(), ...(name === "migrate" ? [] : OTEL_NAMES)]);
    const [, port] = Object.entries(HEALTH_PORTS).find(([each]) => each === name) ?? [];
    const target = port && known.own.get(port);
    const isPublished = service.ports?.some((each) => each.endsWith(`:${target}`)) ?? false;
    return [
      ...given.filter((each) => !names.has(each)).map((each) => `${name}: no code reads ${each}`),
      ...[...names]
        .filter((each) => !given.includes(each) && !NOT_HANDED_ON.has(each))
        .map((each) => `${name}: ${each} cannot be set`),
      ...(name === "consumer" || name === "migrate" || isPublished
        ? []
        : [`${name}: ${port} ${target} is not published`]),
      ...(name === "consumer" && service.ports ? ["consumer: a published port forbids --scale"] : []),
      ...(service.command?.join(" ") === name ? [] : [`${name}: runs ${service.command}`]),
    ];
  });
}

/** Whatever can be set is in .env.example, with the default that it has. */
function exampleFaults(text: string, { services }: Compose, example: string): string[] {
  const defaults = new Map<string, string>();
  for (const [, name = "", usual = ""] of text.matchAll(/\$\{(\w+)(?::?-([^}]*))?\}/g)) defaults.set(name, usual);
  for (const { environment = {} } of Object.values(services))
    for (const [name, value] of Object.entries(environment)) if (value === null) defaults.set(name, "");
  const shown = new Map(
    [...example.matchAll(/^# ([A-Z_]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
  return [
    ...[...defaults].flatMap(([name, usual]) => {
      if (!shown.has(name)) return [`${name} is not in .env.example`];
      return shown.get(name) === usual
        ? []
        : [`${name}=${shown.get(name)} in .env.example, but the default is ${usual}`];
    }),
    ...[...shown.keys()]
      .filter((name) => !defaults.has(name))
      .map((name) => `${name} in .env.example is read by nobody`),
  ];
}

function memoryFaults({ services }: Compose): string[] {
  const limits = Object.entries(services).map(([name, { mem_limit }]) => [name, /^(\d+)m$/.exec(mem_limit ?? "")?.[1]]);
  const unlimited = limits.filter(([, mib]) => mib === undefined).map(([name]) => `${name}: no mem_limit in MiB`);
  const sum = limits.reduce((total, [, mib]) => total + Number(mib ?? 0), 0);
  return sum > MEMORY_MIB_MAX ? [...unlimited, `${sum} MiB in all`] : unlimited;
}

function volumeFaults({ services, volumes }: Compose): string[] {
  const used = Object.entries(services).flatMap(([name, service]) =>
    (service.volumes ?? []).map((volume) => ({ name, source: volume.split(":")[0] ?? "" })),
  );
  const unused = Object.keys(volumes).filter((volume) => !used.some(({ source }) => source === volume));
  return [
    ...used.flatMap(({ name, source }) => {
      const exists = source.startsWith(".") ? existsSync(join(ROOT, source)) : Object.hasOwn(volumes, source);
      return exists ? [] : [`${name}: there is no ${source}`];
    }),
    ...unused.map((volume) => `volume ${volume} is used by nobody`),
  ];
}

function buildFaults(build: string, { services }: Compose): string[] {
  const built = Object.keys(readYaml<Compose>(build)[0]?.services ?? {});
  return [
    ...built.filter((name) => !Object.hasOwn(services, name)).map((name) => `build: there is no service ${name}`),
    ...SERVICES.filter((name) => !built.includes(name)).map((name) => `build: ${name} is not built`),
  ];
}

function scrapeFaults(prometheus: string, { services }: Compose): string[] {
  const scrapes = readYaml<Scrapes>(prometheus)[0]?.scrape_configs ?? [];
  const targets = scrapes.flatMap(({ dns_sd_configs = [], static_configs = [] }) => [
    ...dns_sd_configs.flatMap(({ names, port }) => names.map((name) => ({ name, port: String(port) }))),
    ...static_configs.flatMap((each) => each.targets.map((target) => ({ name: target.split(":")[0] ?? "", port: "" }))),
  ]);
  return [
    ...targets
      .filter(({ name }) => name !== "localhost" && !Object.hasOwn(services, name))
      .map(({ name }) => `prometheus: there is no ${name}`),
    ...Object.entries(HEALTH_PORTS).flatMap(([name, setting]) => {
      const port = settings.get(name)?.own.get(setting);
      return targets.some((target) => target.name === name && target.port === port)
        ? []
        : [`prometheus: ${name}:${port} is not scraped`];
    }),
  ];
}

describe("docker-compose.yml", () => {
  it("agrees with the code, .env.example, its volumes and Prometheus", () => {
    expect(stackFaults(stack)).toEqual([]);
  });

  it("gives every service settings that it accepts", async () => {
    const [compose] = readYaml<Compose>(stack.compose);
    const checks = SERVICES.map(async (name) => {
      const environment = Object.entries(compose?.services[name]?.environment ?? {});
      const env = environment.flatMap(([key, value]) => (value === null ? [] : [[key, interpolated(value)]]));
      const { out, err } = await callCommand(await mainOf(name), ["--check-config"], Object.fromEntries(env));
      return [name, out + err];
    });
    const expected = SERVICES.map((name) => [name, "configuration ok\n"]);
    expect(await Promise.all(checks)).toEqual(expected);
  });

  it("runs the image of this version", () => {
    const [compose] = readYaml<Compose>(stack.compose);
    const images = SERVICES.map((name) => interpolated(compose?.services[name]?.image ?? ""));
    expect(new Set(images)).toEqual(new Set([`ghcr.io/millrace/millrace:${packageVersion()}`]));
  });

  it.each<[string, Partial<Record<keyof Stack, [string | RegExp, string]>>, string]>([
    [
      "a setting nobody reads",
      { compose: ["      BATCH_BYTES:", "      BATCH_BITES:"] },
      "consumer: no code reads BATCH_BITES",
    ],
    ["a setting left out", { compose: ["      ID_WINDOW_COUNT:\n", ""] }, "consumer: ID_WINDOW_COUNT cannot be set"],
    ["a port of another service", { compose: [":-8080}:8080", ":-8080}:8081"] }, "gateway: PORT 8080 is not published"],
    ["a port for everybody", { compose: ["127.0.0.1:${STATS_PORT", "${STATS_PORT"] }, "is not on loopback"],
    ["a volume not declared", { compose: [/ {2}redpanda:\n$/, "  other:\n"] }, "redpanda: there is no redpanda"],
    ["a file that is not there", { compose: ["./deploy/jaeger.yaml", "./deploy/yaeger.yaml"] }, "no ./deploy/yaeger"],
    [
      "a floating image",
      { compose: ["prometheus:v3.13.3", "prometheus:latest"] },
      "prom/prometheus:latest is not pinned",
    ],
    [
      "a consumer with a port",
      { compose: ["command: [consumer]", 'command: [consumer]\n    ports: ["127.0.0.1:8083:8083"]'] },
      "forbids --scale",
    ],
    ["too much memory", { compose: ["mem_limit: 960m", "mem_limit: 2960m"] }, "MiB in all"],
    ["an order that waits for ever", { compose: ['restart: "no"', "restart: always"] }, "migrate never completes"],
    ["another default in .env.example", { example: ["GRAFANA_PORT=3000", "GRAFANA_PORT=3001"] }, "the default is 3000"],
    [
      "a stale line in .env.example",
      { example: ["# LOG_LEVEL=", "# LOG_LEVELS="] },
      "LOG_LEVELS in .env.example is read by nobody",
    ],
    ["a wrong scrape port", { prometheus: ["port: 8083", "port: 8084"] }, "prometheus: consumer:8083 is not scraped"],
    ["a build of what is not there", { build: ["  stats:", "  stat:"] }, "build: stats is not built"],
  ])("is refused with %s", (_, changes, fault) => {
    const changed = { ...stack };
    for (const [file, [from, to]] of Object.entries(changes)) {
      changed[file as keyof Stack] = changed[file as keyof Stack].replace(from, to);
      expect(changed[file as keyof Stack]).not.toBe(stack[file as keyof Stack]);
    }
    expect(stackFaults(changed).join("\n")).toContain(fault);
  });
});
