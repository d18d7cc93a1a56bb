// docs/metrics.md is what the services register, both ways: nothing undocumented, nothing documented that is not there.
import { beforeAll, describe, expect, it } from "vitest";
import { type Catalogue, collectCatalogue, documentedMetrics, EVERY_SERVICE } from "../kit/metrics-catalogue.ts";
import { prometheusForTests } from "../kit/prometheus.ts";
import { run } from "../kit/standalone.ts";

let catalogue: Catalogue;

beforeAll(async () => {
  catalogue = await collectCatalogue();
});

const all = () => [...catalogue.values()].flat();

describe("metrics", () => {
  it("in docs/metrics.md are those that the services register (vitest -u writes the file anew)", async () => {
    expect(all().length).toBeGreaterThan(60);
    await expect(pageOf(catalogue)).toMatchFileSnapshot("../../docs/metrics.md");
  });

  it("are read back from the page as they were written", () => {
    const read = documentedMetrics(pageOf(catalogue));
    expect([...read.values()]).toEqual(all());
  });

  it("belong to one service each, so that the standalone can have them all in one registry", () => {
    const names = all().map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it("of ours are named millrace_, end in _total when they count, and say what they are", () => {
    const faults = all().flatMap(({ name, type, help }) => [
      ...(/^(millrace|nodejs|process)_[a-z0-9_]+$/.test(name) ? [] : [`${name}: whose is it?`]),
      ...(type === "counter" && !name.endsWith("_total") ? [`${name}: a counter without _total`] : []),
      ...(name.startsWith("millrace_") && type !== "counter" && name.endsWith("_total") ? [`${name}: no counter`] : []),
      ...(type === "summary" ? [`${name}: summaries cannot be added up`] : []),
      ...(name.startsWith("millrace_") && !/^[$\dA-Z].+\.$/.test(help) ? [`${name}: "${help}" is no sentence`] : []),
    ]);
    expect(faults).toEqual([]);
  });
});

const tools = prometheusForTests();

describe.skipIf(!tools.available)("promtool check metrics", () => {
  const exposition = () =>
    all()
      .filter(({ name }) => name.startsWith("millrace_"))
      .map(({ name, type, help }) => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${sampleOf(name, type)}\n`)
      .join("");
  const check = (text: string) =>
    run("sh", ["-c", `printf '%s' "$METRICS" | promtool check metrics`], { METRICS: text });

  it("has nothing to say against names, types and help texts", async () => {
    expect(await check(exposition())).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  it.each([
    ["a counter without _total", "millrace_rows_stored_total", "millrace_rows_stored", "_total"],
    ["a unit that is not a base unit", "millrace_lag_seconds", "millrace_lag_milliseconds", "base unit"],
  ])("finds %s", async (_, name, misnamed, complaint) => {
    const { code, stdout, stderr } = await check(exposition().replaceAll(name, misnamed));
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain(complaint);
  });
});

function sampleOf(name: string, type: string): string {
  if (type !== "histogram") return `${name} 1`;
  return `${name}_bucket{le="+Inf"} 1\n${name}_sum 1\n${name}_count 1`;
}

const TITLES: Readonly<Record<string, string>> = {
  [EVERY_SERVICE]: "Every service",
  gateway: "Gateway",
  relay: "Relay",
  consumer: "Consumer",
  stats: "Stats",
};

function pageOf(metrics: Catalogue): string {
  const sections = [...metrics].map(([service, facts]) => {
    const rows = facts.map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(" "),
      help.replaceAll("|", "\\|"),
    ]);
    return [`## ${TITLES[service]}`, "", ...paddedTable([["metric", "type", "labels", "meaning"], ...rows]), ""];
  });
  return `${["# Metrics", "", INTRODUCTION, "", ...sections.flat(), TRACES].join("\n").trimEnd()}\n`;
}

function paddedTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  const [header = "", ...body] = rows.map(line);
  return [header, line(widths.map((width) => "-".repeat(width))), ...body];
}

const INTRODUCTION = `What \`GET /metrics\` of each service has, written by test/component/metrics-docs.test.ts, which compares it with what the
services register. \`millrace start\` has the metrics of all services in one place, on each of its ports. A histogram
\`x_seconds\` is the series \`x_seconds_bucket\`, \`x_seconds_sum\` and \`x_seconds_count\`. Labels are closed sets, but for
\`topic\` and \`partition\`, which the log bounds. The dashboards are in grafana/, the alert rules in
deploy/prometheus/rules/, and [runbook.md](runbook.md) says what to do about each alert.`;

const SPANS = [
  ["span", "kind", "attributes"],
  [
    "`POST /events`, `POST /batch/`",
    "server",
    "`http.request.method`, `http.route`, `http.response.status_code`, `url.path`, `url.scheme`, `network.protocol.version`",
  ],
  [
    "the RPC, `package.Service/Method`",
    "server",
    "`rpc.system.name` (connectrpc, grpc), `rpc.method`, `rpc.response.status_code` of gRPC, else `http.response.status_code`",
  ],
  [
    "`send <topic>`",
    "producer",
    "`messaging.system`, `messaging.operation.name`, `messaging.operation.type`, `messaging.destination.name`, `messaging.batch.message_count`; on Kafka only",
  ],
  [
    "`process <topic>`",
    "consumer",
    "as `send`, and `messaging.destination.partition.id`, `messaging.consumer.group.name`",
  ],
  [
    "`INSERT <table>`",
    "client",
    "`db.system.name`, `db.namespace`, `db.collection.name`, `db.operation.name`, `server.address`, `server.port`, `db.response.status_code` of a refusal",
  ],
];

const TRACES = `## Traces

Off unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set; sampling is by
OTEL_TRACES_SAMPLER. Spans and attributes are named by OpenTelemetry's semantic conventions. One trace leads from a
request with a \`traceparent\` (or without, then it begins here) over the append and the record on the log to the insert.

${paddedTable(SPANS).join("\n")}

A failed span has \`error.type\`. What a caller does wrong is no failure of the server's span. One append serves many
requests and one batch many appends: such a span is in the trace of its first traced record and has links to all of
them, as the conventions want it.
`;
