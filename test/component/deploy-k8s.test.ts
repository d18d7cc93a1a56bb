// k8s/ against the code and against itself, without a cluster: what Kubernetes would only say when it is too late. The
// schemas are checked by `npm run check:k8s`. Every check is shown to fail.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { packageVersion } from "#lib/process/version.ts";
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

type Labels = Record<string, string>;

interface Probe {
  httpGet: { path: string; port: string };
}

interface Container {
  name: string;
  image: string;
  args: string[];
  envFrom: ({ configMapRef: { name: string } } | { secretRef: { name: string } })[];
  env?: { name: string; value: string }[];
  ports?: { name: string; containerPort: number }[];
  startupProbe?: Probe;
  livenessProbe?: Probe;
  readinessProbe?: Probe;
  lifecycle?: { preStop: { sleep: { seconds: number } } };
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
  securityContext?: Record<string, unknown>;
}

interface Pod {
  automountServiceAccountToken?: boolean;
  enableServiceLinks?: boolean;
  terminationGracePeriodSeconds?: number;
  securityContext?: Record<string, unknown>;
  containers: Container[];
}

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Labels };
  data?: Record<string, string>;
  spec: {
    replicas?: number;
    selector: Labels & { matchLabels?: Labels };
    template: { metadata: { labels: Labels; annotations?: Labels }; spec: Pod };
    ports: { name: string; port: number; targetPort: string }[];
    scaleTargetRef: { kind: string; name: string };
    podSelector: { matchLabels: Labels };
    egress?: { ports?: { port: number }[] }[];
    minReplicaCount: number;
    maxReplicaCount: number;
    fallback?: { replicas: number };
    advanced: { horizontalPodAutoscalerConfig: { behavior: { scaleDown: { stabilizationWindowSeconds: number } } } };
    triggers: { metadata: Record<string, string> }[];
  };
}

/** Services end within STOP_TIMEOUT and this; the consumer, which has no such setting, within 15 seconds. */
const STOP_MARGIN_S = 10;
const CONSUMER_STOP_S = 15;
const RESTRICTED_POD = {
  runAsNonRoot: true,
  runAsUser: 1000,
  runAsGroup: 1000,
  seccompProfile: { type: "RuntimeDefault" },
};
const RESTRICTED_CONTAINER = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};

const FILES = readdirSync(join(ROOT, "k8s")).filter((name) => /\.(ya?ml|json)$/.test(name));
const PLAIN = FILES.map((name) => read(`k8s/${name}`)).join("\n---\n");
const SECRET = read("k8s/secret.yaml.template");
const KEDA = read("k8s/keda/scaledobject.yaml");
let settings: ReadonlyMap<string, ServiceSettings>;

beforeAll(async () => {
  settings = await allSettings();
});

function faultsOf(text: string): string[] {
  const manifests = readYaml<Manifest>(text);
  const of = (kind: string) => manifests.filter((each) => each.kind === kind);
  const deployments = of("Deployment");
  const pods = [...deployments, ...of("Job")];
  const matches = (selector: Labels, labels: Labels) =>
    Object.entries(selector).every(([key, value]) => labels[key] === value);
  const selected = (selector: Labels) => pods.filter(({ spec }) => matches(selector, spec.template.metadata.labels));
  const known = new Set([
    ...OTEL_NAMES,
    ...[...settings.values()].flatMap(({ own, aliases }) => [...own.keys(), ...aliases]),
  ]);
  return [
    ...manifests.flatMap(({ kind, metadata: { name, namespace } }) =>
      kind === "Namespace" || namespace === "millrace" ? [] : [`${kind} ${name}: not in the namespace`],
    ),
    ...pods.flatMap(podFaults),
    ...deployments.flatMap(deploymentFaults),
    ...of("Job").flatMap(({ metadata }) =>
      metadata.name.endsWith(packageVersion()) ? [] : [`Job ${metadata.name}: not of this version`],
    ),
    ...[...of("ConfigMap"), ...of("Secret")].flatMap(({ data = {} }) =>
      Object.keys(data).flatMap((name) => (known.has(name) ? [] : [`no code reads ${name}`])),
    ),
    ...of("Service").flatMap(({ metadata, spec }) =>
      spec.ports.flatMap(({ port, targetPort }) => {
        const [target] = selected(spec.selector);
        const ports = target?.spec.template.spec.containers[0]?.ports ?? [];
        const found = ports.some((each) => each.name === targetPort && each.containerPort === port);
        return found ? [] : [`Service ${metadata.name}: nothing has a port ${targetPort} ${port}`];
      }),
    ),
    ...of("PodDisruptionBudget").flatMap(({ metadata, spec }) =>
      selected(spec.selector.matchLabels ?? {}).length === 1
        ? []
        : [`PodDisruptionBudget ${metadata.name}: not of one deployment`],
    ),
    ...of("NetworkPolicy").flatMap(({ metadata, spec }) =>
      selected(spec.podSelector.matchLabels).length > 0 ? [] : [`NetworkPolicy ${metadata.name}: selects nothing`],
    ),
    ...of("HorizontalPodAutoscaler").flatMap(({ metadata, spec }) => {
      const target = deployments.find((each) => each.metadata.name === spec.scaleTargetRef.name);
      if (!target) return [`HorizontalPodAutoscaler ${metadata.name}: there is no ${spec.scaleTargetRef.name}`];
      return target.spec.replicas === undefined ? [] : [`${target.metadata.name}: replicas undo the autoscaler`];
    }),
    ...SERVICES.filter((name) => !pods.some(({ spec }) => spec.template.spec.containers[0]?.args[0] === name)).map(
      (name) => `nothing runs ${name}`,
    ),
  ];
}

function podFaults({ kind, metadata, spec }: Manifest): string[] {
  const pod = spec.template.spec;
  const where = `${kind} ${metadata.name}`;
  const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
  return [
    // The Service `relay` would set RELAY_PORT=tcp://…
    ...(pod.enableServiceLinks === false ? [] : [`${where}: enableServiceLinks sets settings of ours`]),
    ...(pod.automountServiceAccountToken === false ? [] : [`${where}: has a token of the cluster`]),
    ...(same(pod.securityContext, RESTRICTED_POD) ? [] : [`${where}: the pod is not restricted`]),
    ...pod.containers.flatMap(({ image, securityContext, resources, envFrom }) => [
      ...(image === `ghcr.io/millrace/millrace:${packageVersion()}` ? [] : [`${where}: image ${image}`]),
      ...(same(securityContext, RESTRICTED_CONTAINER) ? [] : [`${where}: the container is not restricted`]),
      ...(resources?.requests?.cpu && resources.requests.memory && resources.limits?.memory
        ? []
        : [`${where}: no resources`]),
      ...(same(envFrom, [{ configMapRef: { name: "millrace" } }, { secretRef: { name: "millrace" } }])
        ? []
        : [`${where}: envFrom`]),
    ]),
  ];
}

function deploymentFaults({ metadata: { name }, spec }: Manifest): string[] {
  const { labels, annotations = {} } = spec.template.metadata;
  const pod = spec.template.spec;
  const [container] = pod.containers;
  const setting = (HEALTH_PORTS as Record<string, string>)[name];
  if (!container || !setting) return [`Deployment ${name}: is no service`];
  const own = settings.get(name)?.own ?? new Map<string, string>();
  const portOf = (port: string) => String(container.ports?.find((each) => each.name === port)?.containerPort);
  const probes = {
    startup: container.startupProbe,
    liveness: container.livenessProbe,
    readiness: container.readinessProbe,
  };
  const ownPorts = ["PORT", "STATS_PORT", "RELAY_PORT", "RELAY_HTTP_PORT", "CONSUMER_PORT"].map((each) =>
    own.get(each),
  );
  const stopSeconds = own.has("STOP_TIMEOUT")
    ? Number.parseInt(own.get("STOP_TIMEOUT") ?? "", 10) + STOP_MARGIN_S
    : CONSUMER_STOP_S;
  const needed = stopSeconds + (container.lifecycle?.preStop.sleep.seconds ?? 0);
  const selector = Object.entries(spec.selector.matchLabels ?? {});
  return [
    ...(selector.length > 0 && selector.every(([key, value]) => labels[key] === value)
      ? []
      : [`${name}: selects other pods`]),
    ...Object.entries(probes).flatMap(([kind, probe]) => {
      if (!probe) return [`${name}: no ${kind} probe`];
      const path = kind === "readiness" ? "/readyz" : "/healthz";
      const right = probe.httpGet.path === path && portOf(probe.httpGet.port) === own.get(setting);
      return right ? [] : [`${name}: ${kind} probe asks ${probe.httpGet.path} of ${probe.httpGet.port}`];
    }),
    ...(container.ports ?? [])
      .filter((port) => !ownPorts.includes(String(port.containerPort)))
      .map((port) => `${name}: does not listen on ${port.containerPort}`),
    ...(annotations["prometheus.io/port"] === own.get(setting) ? [] : [`${name}: is scraped on another port`]),
    ...((pod.terminationGracePeriodSeconds ?? 0) >= needed
      ? []
      : [`${name}: is killed before it has stopped, ${needed} s`]),
  ];
}

/** The traps: scaling to none, beyond the partitions, in a storm, or on numbers that nobody measures. */
function kedaFaults(text: string): string[] {
  const [scaled] = readYaml<Manifest>(text);
  const { minReplicaCount, maxReplicaCount, fallback, advanced, triggers, scaleTargetRef } =
    scaled?.spec ?? ({} as Manifest["spec"]);
  const partitions = Number(/KAFKA_PARTITIONS: "(\d+)"/.exec(PLAIN)?.[1]);
  const metrics = read("services/consumer/metrics.ts");
  const query = triggers[0]?.metadata.query ?? "";
  const deployment = readYaml<Manifest>(PLAIN).find(
    ({ kind, metadata }) => kind === "Deployment" && metadata.name === scaleTargetRef.name,
  );
  return [
    ...(minReplicaCount >= 1 ? [] : ["scales to none"]),
    ...(maxReplicaCount === partitions ? [] : [`at most ${maxReplicaCount} of ${partitions} partitions`]),
    ...((fallback?.replicas ?? 0) >= minReplicaCount ? [] : ["no fallback"]),
    ...(advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds >= 300
      ? []
      : ["scales down at once"]),
    ...(triggers[0]?.metadata.ignoreNullValues === "false" ? [] : ["no value counts as 0"]),
    ...[...query.matchAll(/millrace_\w+/g)].flatMap(([name]) =>
      metrics.includes(`"${name}"`) ? [] : [`no metric ${name}`],
    ),
    ...(query.includes("millrace_lag_seconds") ? [] : ["does not scale on seconds"]),
    ...(deployment && deployment.spec.replicas === undefined ? [] : ["replicas undo the autoscaler"]),
  ];
}

describe("k8s/", () => {
  it("holds what kubectl apply takes, in an order in which it works", () => {
    expect(FILES[0]).toBe("00-namespace.yaml");
    expect(readYaml<Manifest>(PLAIN).map(({ kind }) => kind)).not.toContain("Kustomization");
    expect(readYaml<Manifest>(PLAIN).map(({ kind }) => kind)).not.toContain("Secret");
  });

  it("agrees with the code and with itself", () => {
    expect(faultsOf(PLAIN)).toEqual([]);
  });

  it.each([
    ["a setting nobody reads", "KAFKA_BROKERS:", "KAFKA_BROKER:", "no code reads KAFKA_BROKER"],
    [
      "a selector of other pods",
      "matchLabels: { app.kubernetes.io/name: relay,",
      "matchLabels: { app.kubernetes.io/name: rely,",
      "relay: selects other pods",
    ],
    [
      "a probe of another path",
      "{ path: /readyz, port: health }",
      "{ path: /ready, port: health }",
      "consumer: readiness probe asks /ready",
    ],
    [
      "a probe of another port",
      "{ path: /healthz, port: http }",
      "{ path: /healthz, port: htp }",
      "startup probe asks /healthz of htp",
    ],
    ["a port of another service", "containerPort: 8082", "containerPort: 8083", "relay: does not listen on 8083"],
    [
      "a Service without its port",
      "targetPort: relay",
      "targetPort: relays",
      "Service relay: nothing has a port relays",
    ],
    [
      "service links",
      "enableServiceLinks: false",
      "enableServiceLinks: true",
      "enableServiceLinks sets settings of ours",
    ],
    [
      "a writable container",
      "readOnlyRootFilesystem: true",
      "readOnlyRootFilesystem: false",
      "the container is not restricted",
    ],
    ["no memory limit", "limits: { memory: 1Gi }", "limits: { cpu: 1 }", "consumer: no resources"],
    [
      "too little time to stop",
      "terminationGracePeriodSeconds: 35",
      "terminationGracePeriodSeconds: 20",
      "is killed before it has stopped",
    ],
    ["an autoscaler of nothing", "kind: Deployment, name: gateway", "kind: Deployment, name: gate", "there is no gate"],
    ["another image", `millrace:${packageVersion()}`, "millrace:latest", "millrace:latest"],
  ])("is refused with %s", (_, from, to, fault) => {
    const changed = PLAIN.replace(from, to);
    expect(changed).not.toBe(PLAIN);
    expect(faultsOf(changed).join("\n")).toContain(fault);
  });

  it("lets stats ask every gateway what it has refused", () => {
    const manifests = readYaml<Manifest>(PLAIN);
    const [stats, gateway] = ["stats", "gateway"].map((wanted) =>
      manifests.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === wanted),
    );
    const env = stats?.spec.template.spec.containers[0]?.env ?? [];
    const from = new URL(env.find(({ name }) => name === "REFUSALS_FROM")?.value ?? "");
    const service = manifests.find(({ kind, metadata }) => kind === "Service" && metadata.name === from.hostname);
    expect(service?.spec).toMatchObject({
      clusterIP: "None",
      selector: gateway?.spec.selector.matchLabels,
      ports: [expect.objectContaining({ port: Number(from.port) })],
    });
    const rules = manifests.filter(({ kind }) => kind === "NetworkPolicy").flatMap(({ spec }) => spec.egress ?? []);
    expect(rules.filter(({ ports }) => ports?.some(({ port }) => port === Number(from.port)))).toHaveLength(1);
  });

  it("has a secret template whose names are settings, and that kubectl apply passes over", () => {
    const commented = SECRET.replaceAll(/^ {2}# ([A-Z_]+:)/gm, "  $1");
    const [secret] = readYaml<{ stringData: Record<string, string> }>(commented);
    const names = new Set([...settings.values()].flatMap(({ own, aliases }) => [...own.keys(), ...aliases]));
    expect(Object.keys(secret?.stringData ?? {}).length).toBeGreaterThan(8);
    expect(Object.keys(secret?.stringData ?? {}).filter((name) => !names.has(name))).toEqual([]);
  });

  it("is the base of kustomize, file by file", () => {
    const [base] = readYaml<{ resources: string[] }>(read("k8s/kustomize/base/kustomization.yaml"));
    expect(base?.resources).toEqual(FILES);
    for (const file of FILES) expect(read(`k8s/kustomize/base/${file}`), file).toBe(read(`k8s/${file}`));
  });
});

describe("k8s/keda", () => {
  it("avoids the traps of scaling consumers", () => {
    expect(kedaFaults(KEDA)).toEqual([]);
  });

  it.each([
    ["minReplicaCount: 1", "minReplicaCount: 0", "scales to none"],
    ["maxReplicaCount: 12", "maxReplicaCount: 20", "at most 20 of 12"],
    ["stabilizationWindowSeconds: 600", "stabilizationWindowSeconds: 0", "scales down at once"],
    ['ignoreNullValues: "false"', 'ignoreNullValues: "true"', "no value counts as 0"],
    ["millrace_partition_halted", "millrace_partitions_halted", "no metric millrace_partitions_halted"],
    ["fallback:", "fallbacks:", "no fallback"],
  ])("is refused with %s as %s", (from, to, fault) => {
    expect(kedaFaults(KEDA.replace(from, to))).toContainEqual(expect.stringContaining(fault));
  });
});
