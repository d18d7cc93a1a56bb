// AlertService over Connect, gRPC and gRPC-Web, on a real ClickHouse and a real webhook receiver.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  type AlertDefinitionSchema,
  AlertLevel,
  AlertOperator,
  AlertService,
  Delivery_State,
  NoDataRule,
} from "#gen/millrace/stats/v1/alerts_pb.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type AlertsServer, startAlertsServer } from "../kit/alerts-server.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

type DefinitionInit = MessageInitShape<typeof AlertDefinitionSchema>;

const UNKNOWN = "4d3c2b1a-0000-4000-8000-000000000000";
const LEAST: DefinitionInit = { metric: "cpu_used", threshold: 80, post: "http://example.com/" };
const FULL: DefinitionInit = {
  ...{ metric: "cpu_used", tags: { host: "a" }, threshold: 0, post: "https://example.com/x", groupBy: ["core"] },
  ...{ level: AlertLevel.WARN, operator: AlertOperator.NE, noData: NoDataRule.BREACH },
  duration: { seconds: 90n, nanos: 500_000_000 },
};

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let server: AlertsServer;
let client: Client<typeof AlertService>;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("alerts");
  warehouse = clickhouse.warehouse("alerts");
  server = await startAlertsServer(warehouse);
  client = createClient(AlertService, createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" }));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await warehouse.command("TRUNCATE TABLE alerts");
  await warehouse.command("TRUNCATE TABLE alert_events");
});

async function created(definition: DefinitionInit) {
  const { alert } = await client.createAlert({ definition });
  if (!alert) throw new Error("no alert was answered");
  return alert;
}

async function failure(work: Promise<unknown>): Promise<ConnectError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConnectError)) throw new Error("the call did not fail", { cause: error });
  return error;
}

describe("definitions", () => {
  it.each([
    ["connect", () => createConnectTransport({ baseUrl: server.url, httpVersion: "2", useBinaryFormat: true })],
    ["connect get", () => createConnectTransport({ baseUrl: server.url, httpVersion: "1.1", useHttpGet: true })],
    ["grpc", () => createGrpcTransport({ baseUrl: server.url })],
    ["grpc-web", () => createGrpcWebTransport({ baseUrl: server.url, httpVersion: "1.1" })],
  ])("are created, read, listed, updated and deleted over %s", async (_, transport) => {
    const own = createClient(AlertService, transport());
    const { alert } = await own.createAlert({ definition: FULL });
    expect(alert).toMatchObject({ definition: FULL, version: 1n, updateTime: alert?.createTime });
    const id = alert?.id ?? "";
    expect((await own.getAlert({ id })).alert).toEqual(alert);
    const second = (await own.createAlert({ definition: LEAST })).alert;
    expect((await own.listAlerts({})).alerts).toEqual([alert, second]);
    const updated = (await own.updateAlert({ id, definition: LEAST })).alert;
    expect(updated).toMatchObject({ id, definition: second?.definition, version: 2n, createTime: alert?.createTime });
    await own.deleteAlert({ id });
    await own.deleteAlert({ id });
    expect((await failure(own.getAlert({ id }))).code).toBe(Code.NotFound);
    expect((await own.listAlerts({})).alerts).toEqual([second]);
  });

  it("have defaults, which are answered", async () => {
    const { definition } = await created(LEAST);
    expect(definition).toMatchObject({
      ...{ level: AlertLevel.CRIT, operator: AlertOperator.GT, noData: NoDataRule.KEEP },
      duration: { seconds: 300n, nanos: 0 },
    });
  });

  it("are the same by the old routes", async () => {
    const { id } = await created(FULL);
    const old = (await (await fetch(`${server.url}/alerts/${id}`)).json()) as Record<string, unknown>;
    expect(old).toEqual({
      ...{ id, tags: { host: "a" }, metric: "cpu_used", level: "warn", operator: "ne", threshold: 0 },
      ...{ duration: "90500ms", post: "https://example.com/x", group_by: ["core"], no_data: "breach" },
    });
    const body = JSON.stringify({ ...old, operator: "??", threshold: "7" });
    await fetch(`${server.url}/alerts`, { method: "PUT", body });
    const { alert } = await client.getAlert({ id });
    expect(alert?.definition).toMatchObject({ operator: AlertOperator.GT, threshold: 7 });
  });

  it("that are wrong are refused with every field, why, and what to send", async () => {
    const wrong: DefinitionInit = {
      ...{ metric: "", tags: { "": "x" }, post: "x", groupBy: ["a", "a"], threshold: Number.NaN },
      ...{ level: AlertLevel.OK, operator: 99 as AlertOperator, noData: 99 as NoDataRule },
      duration: { seconds: 8n * 3600n, nanos: 1_000_000 },
    };
    const { code, rawMessage } = await failure(client.createAlert({ definition: wrong }));
    expect(code).toBe(Code.InvalidArgument);
    const fields = ["metric", "tags", "post", "group_by", "threshold", "level", "operator", "no_data", "duration"];
    for (const field of fields) expect(rawMessage).toContain(`definition.${field}: `);
    expect(rawMessage).toContain('"ok" is not a level; send info, warn or crit');
    expect(rawMessage).toContain("longer than points are kept; send at most 8h");
    const { id } = await created(LEAST);
    expect((await failure(client.updateAlert({ id, definition: wrong }))).rawMessage).toBe(rawMessage);
  });

  it.each<[string, DefinitionInit | undefined, string]>([
    ["nothing", undefined, "definition.metric: is missing"],
    ["no threshold", { ...LEAST, threshold: undefined }, "definition.threshold: is missing"],
    ["no time", { ...LEAST, duration: {} }, '"0ms" is not at least 1ms'],
    ["a negative time", { ...LEAST, duration: { seconds: -60n } }, "is not at least 1ms"],
    ["microseconds", { ...LEAST, duration: { seconds: 1n, nanos: 1_000 } }, "in whole milliseconds"],
  ])("of %s are refused", async (_, definition, message) => {
    const { code, rawMessage } = await failure(client.createAlert(definition ? { definition } : {}));
    expect([code, rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining(message)]);
  });

  it("half a character is the caller's mistake, not the service's", async () => {
    const body = '{"definition":{"metric":"\\ud800x","threshold":1,"post":"http://h/"}}';
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${server.url}/millrace.stats.v1.AlertService/CreateAlert`, {
      ...{ method: "POST", headers, body },
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "invalid_argument" });
  });

  it("update asks for the version when it is given one", async () => {
    const { id } = await created(LEAST);
    expect((await client.updateAlert({ id, definition: FULL, version: 1n })).alert?.version).toBe(2n);
    const stale = await failure(client.updateAlert({ id, definition: LEAST, version: 1n }));
    expect(stale.code).toBe(Code.Aborted);
    expect((await client.getAlert({ id })).alert).toMatchObject({ definition: FULL, version: 2n });
  });

  it.each([[UNKNOWN], [""], ["x' OR 1=1"]])("the unknown id %j is not found, and deleted is what it is", async (id) => {
    expect((await failure(client.getAlert({ id }))).code).toBe(Code.NotFound);
    expect((await failure(client.updateAlert({ id, definition: LEAST }))).code).toBe(Code.NotFound);
    expect((await failure(client.testFire({ id }))).code).toBe(Code.NotFound);
    await client.deleteAlert({ id });
  });
});

it("with ClickHouse away every call is unavailable and says when to try again", async () => {
  const nowhere = createClickHouseWarehouse({ ...clickhouse.connection, url: "http://127.0.0.1:1", database: "x" });
  await using away = await startAlertsServer(nowhere);
  const own = createClient(AlertService, createConnectTransport({ baseUrl: away.url, httpVersion: "1.1" }));
  const id = UNKNOWN;
  const calls = [
    ...[own.createAlert({ definition: LEAST }), own.getAlert({ id }), own.listAlerts({}), own.deleteAlert({ id })],
    ...[own.updateAlert({ id, definition: LEAST }), own.testFire({ id }), own.listTransitions({})],
  ];
  for (const call of calls) {
    const { code, metadata } = await failure(call);
    expect([code, metadata.get("retry-after")]).toEqual([Code.Unavailable, "2"]);
  }
  await nowhere[Symbol.asyncDispose]();
});

describe("TestFire", () => {
  it("answers the receiver's status, what it refused with, and that it is not there", async () => {
    const seen: string[] = [];
    let status = 204;
    const receiver = createServer((request, response) => {
      request.on("data", (chunk) => seen.push(String(chunk))).on("end", () => response.writeHead(status).end());
    });
    await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
    const post = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
    const { id } = await created({ ...LEAST, post });
    expect(await client.testFire({ id })).toMatchObject({ httpStatus: 204, error: "" });
    expect(seen).toEqual([expect.stringContaining(id)]);
    status = 500;
    expect(await client.testFire({ id })).toMatchObject({ httpStatus: 500, error: expect.stringContaining("500") });
    await new Promise((resolve) => receiver.close(resolve));
    expect(await client.testFire({ id })).toMatchObject({
      httpStatus: 0,
      error: expect.stringMatching(/ECONNREFUSED/),
    });
    expect((await client.listTransitions({ alertId: id })).transitions).toEqual([]);
  });
});

describe("ListTransitions", () => {
  const ALERTS = ["a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"] as const;
  const idOf = (n: number) => `b0000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
  const time = (n: number) => `2026-01-01T00:00:${String(n).padStart(2, "0")}.000Z`;

  async function insert(columns: string[], ...rows: unknown[][]) {
    const bytes = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    await warehouse.insert({ table: "alert_events", columns, rows: bytes, token: crypto.randomUUID() });
  }

  /** As the evaluation writes them; every one of them twice, as two copies would. */
  async function history() {
    const columns = [
      ...["kind", "transition_id", "alert_id", "at", "alert_version", "scope", "group_tags", "previous_transition_id"],
      ...["level", "previous_level", "value", "window_start", "metric", "payload", "post"],
    ];
    const row = (n: number, at: number, level: string, before: string, value: number | null) => [
      ...["transition", idOf(n), ALERTS[n % 2], time(at), 3, "s", { core: String(n) }, n > 2 ? idOf(n - 2) : idOf(0)],
      ...[level, before, value, time(0), "cpu", "{}", "http://h/"],
    ];
    const rows = [row(1, 1, "crit", "ok", 91.5), row(2, 1, "warn", "ok", null), row(3, 3, "ok", "crit", 2)];
    await insert(columns, ...rows);
    await insert(columns, ...rows);
    const outcome = ["kind", "transition_id", "alert_id", "at", "attempts", "http_status", "error"];
    await insert(outcome, ["delivered", idOf(1), ALERTS[1], time(9), 2, 200, ""]);
    await insert(outcome, ["failed", idOf(2), ALERTS[0], time(8), 7, 500, "the receiver answered 500"]);
  }

  it("answers each change once, the newest first, with what became of telling it", async () => {
    await history();
    const { transitions, nextPageToken } = await client.listTransitions({});
    expect(nextPageToken).toBe("");
    expect(transitions.map(({ id }) => id)).toEqual([idOf(3), idOf(2), idOf(1)]);
    const [third, second, first] = transitions;
    expect(third).toMatchObject({
      ...{ alertId: ALERTS[1], alertVersion: 3n, metric: "cpu", group: { core: "3" }, value: 2 },
      ...{ level: AlertLevel.OK, previousLevel: AlertLevel.CRIT, previousTransitionId: idOf(1) },
      ...{ time: { seconds: 1767225603n }, windowStart: { seconds: 1767225600n } },
      delivery: { state: Delivery_State.PENDING, attempts: 0, httpStatus: 0, error: "" },
    });
    expect(third?.delivery?.time).toBeUndefined();
    expect(second?.value).toBeUndefined();
    expect(second?.delivery).toMatchObject({
      ...{ state: Delivery_State.FAILED, attempts: 7, httpStatus: 500, error: "the receiver answered 500" },
      time: { seconds: 1767225608n },
    });
    expect(first?.delivery).toMatchObject({ state: Delivery_State.DELIVERED, attempts: 2, httpStatus: 200 });
  });

  it("answers those of one alert, also of one that is not there", async () => {
    await history();
    const { transitions } = await client.listTransitions({ alertId: ALERTS[1] });
    expect(transitions.map(({ id }) => id)).toEqual([idOf(3), idOf(1)]);
    expect((await client.listTransitions({ alertId: UNKNOWN })).transitions).toEqual([]);
  });

  it("pages without losing or repeating changes of one moment", async () => {
    await history();
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await client.listTransitions({ pageSize: 1, pageToken });
      seen.push(...page.transitions.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual([idOf(3), idOf(2), idOf(1)]);
  });

  it.each([
    [{ pageSize: -1 }, "page_size"],
    [{ pageSize: 1001 }, "page_size"],
    [{ pageToken: "x" }, "page_token"],
    [{ pageToken: Buffer.from(`1 ${"x".repeat(36)}`).toString("base64url") }, "page_token"],
    [{ alertId: "x" }, "alert_id"],
  ])("refuses %j", async (request, field) => {
    const { code, rawMessage } = await failure(client.listTransitions(request));
    expect([code, rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining(`${field}: `)]);
  });
});
