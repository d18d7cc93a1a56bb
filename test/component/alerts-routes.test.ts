// /alerts as pulse's callers know it: sections 2.1 and 2.2 of its API, over real HTTP and a real ClickHouse.
import { request } from "node:http";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type AlertsServer, startAlertsServer } from "../kit/alerts-server.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;
const UNKNOWN = "4d3c2b1a-0000-4000-8000-000000000000";
const FULL = {
  ...{ tags: { host: "abcd" }, metric: "cpu_used", level: "warn", operator: "ge", threshold: "80", duration: "30s" },
  post: "http://127.0.0.1/alert",
};
const LEAST = { metric: "cpu_used", threshold: 80, post: "http://example.com/" };

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let server: AlertsServer;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("alerts");
  warehouse = clickhouse.warehouse("alerts");
  server = await startAlertsServer(warehouse);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});
beforeEach(() => warehouse.command("TRUNCATE TABLE alerts"));

async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const sent = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
  const response = await fetch(`${server.url}${path}`, {
    method,
    headers,
    redirect: "manual",
    ...(sent === undefined ? {} : { body: sent }),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, text, json: isJson ? JSON.parse(text) : undefined, headers: response.headers };
}

const create = async (body: unknown, path = "/alerts") => {
  const { status, json } = await call("POST", path, body);
  expect(status).toBe(200);
  return json as { id: string } & Record<string, unknown>;
};

describe("POST /alerts", () => {
  it("answers 200 with the alert, its keys in pulse's order, and a line break", async () => {
    const { status, text, headers } = await call("POST", "/alerts", FULL);
    const id = /"id":"([^"]+)"/.exec(text)?.[1] ?? "";
    expect(id).toMatch(UUID);
    expect(status).toBe(200);
    expect(headers.get("content-type")).toBe("application/json");
    expect(headers.get("access-control-allow-origin")).toBe("*");
    expect(text).toBe(
      `{"id":"${id}","tags":{"host":"abcd"},"metric":"cpu_used","level":"warn","operator":"ge","threshold":"80",` +
        `"duration":"30s","post":"http://127.0.0.1/alert"}\n`,
    );
    expect((await call("GET", `/alerts/${id}`)).text).toBe(text);
  });

  it("fills in crit, 5m and the empty operator, and leaves out tags when there are none", async () => {
    const { id, ...rest } = await create(LEAST);
    const expected = { metric: "cpu_used", level: "crit", operator: "", threshold: 80, duration: "5m" };
    expect(rest).toEqual({ ...expected, post: LEAST.post });
  });

  it("gives a new id whatever id was sent", async () => {
    const first = await create({ ...LEAST, id: UNKNOWN });
    expect(first.id).not.toBe(UNKNOWN);
    const second = await create({ ...LEAST, id: first.id });
    expect(second.id).not.toBe(first.id);
  });

  it.each([[80], ["80"], [-0.5], ["80.50"], ["1e3"], [" 7 "]])(
    "answers the threshold %j as it was sent",
    async (sent) => {
      const { id } = await create({ ...LEAST, threshold: sent });
      expect((await call("GET", `/alerts/${id}`)).json.threshold).toBe(sent);
    },
  );

  it.each(["gt", "ne", "", "=>", "greater"])("answers the operator %j as it was sent", async (operator) => {
    const { id } = await create({ ...LEAST, operator });
    expect((await call("GET", `/alerts/${id}`)).json.operator).toBe(operator);
  });

  it("reads JSON whatever the content type, keys in any case, and ignores unknown ones and nulls", async () => {
    const body = '{"METRIC":"a","Threshold":1,"pOsT":"http://h/","level":null,"tags":{"x":null},"extra":{"a":[1]}}';
    const { status, json } = await call("POST", "/alerts", body, {
      "content-type": "application/x-www-form-urlencoded",
    });
    expect(status).toBe(200);
    expect(json).toMatchObject({ metric: "a", threshold: 1, post: "http://h/", level: "crit", tags: { x: "" } });
  });

  it.each([["{"], [""], ["[]"], ["5"], ['"x"'], ['{"metric":"a"} x'], ["\u{feff}{}"]])(
    "refuses %j as bad JSON",
    async (body) => {
      const { status, text } = await call("POST", "/alerts", body);
      expect([status, text]).toEqual([400, '{"error":"Bad JSON syntax received in body"}\n']);
    },
  );

  it.each([
    [{ metric: 5 }, "metric"],
    [{ id: 5 }, "id"],
    [{ tags: ["a"] }, "tags"],
    [{ tags: { a: 1 } }, "tags"],
    [{ threshold: true }, "threshold"],
    [{ group_by: "host" }, "group_by"],
    [{ group_by: [1] }, "group_by"],
  ])("refuses %j as bad JSON and names the field", async (wrong, field) => {
    const { status, json } = await call("POST", "/alerts", { ...LEAST, ...wrong });
    expect([status, json.error]).toEqual([400, "Bad JSON syntax received in body"]);
    expect(json.faults).toEqual([{ field, message: expect.stringMatching(/^is .*; send /) }]);
  });

  it.each([["null"], ["{}"], [{ ...LEAST, metric: "" }], [{ ...LEAST, post: undefined }]])(
    "refuses %j for the missing value",
    async (body) => {
      const { status, json } = await call("POST", "/alerts", body);
      expect([status, json.error]).toEqual([400, "Missing value in payload"]);
    },
  );

  it.each([
    [{ level: "critical" }, 'level: "critical" is not a level; send info, warn or crit'],
    [{ level: "CRIT" }, 'level: "CRIT" is not a level'],
    [{ threshold: "eighty" }, 'threshold: "eighty" is not a number; send a decimal number'],
    [{ threshold: "0x50" }, 'threshold: "0x50" is not a number'],
    [{ threshold: "1e999" }, 'threshold: "1e999" is not finite'],
    [{ threshold: "" }, "threshold: is missing; send a number"],
    [{ threshold: undefined }, "threshold: is missing; send a number"],
    [{ duration: "5" }, 'duration: "5" is not a duration; send a whole number and one of u, ms, s, m, h, d and w'],
    [{ duration: "-5m" }, 'duration: "-5m" is not a duration'],
    [{ duration: "0s" }, 'duration: "0s" is not at least 1ms'],
    [{ duration: "9h" }, 'duration: "9h" is longer than points are kept; send at most 8h, or raise POINTS_RETENTION'],
    [{ duration: "99999999999999999999w" }, "is longer than points are kept"],
    [{ post: "ftp://h/" }, 'post: "ftp://h/" is not an http or https URL; send one such as'],
    [{ post: "example.com" }, 'post: "example.com" is not an http or https URL'],
    [{ group_by: ["a", "a"] }, "group_by: names a tag twice"],
    [{ no_data: "alert" }, 'no_data: "alert" is not valid; send keep or breach'],
  ])("refuses %j with field, value and remedy", async (wrong, message) => {
    const { status, json } = await call("POST", "/alerts", { ...LEAST, ...wrong });
    expect(status).toBe(400);
    expect(json.error).toMatch(/^Failed to create task - /);
    expect(json.error).toContain(message);
    expect(json.faults).toHaveLength(1);
  });

  it("names every field that is wrong in one answer, and stores nothing", async () => {
    const wrong = {
      ...{ metric: "m".repeat(201), tags: { "": "x" }, level: "x", operator: "o".repeat(201), threshold: "x" },
      ...{ duration: "x", post: "x", group_by: [""], no_data: "x" },
    };
    const { status, json } = await call("POST", "/alerts", wrong);
    expect(status).toBe(400);
    const fields = json.faults.map(({ field }: { field: string }) => field);
    expect(fields.toSorted()).toEqual(Object.keys(wrong).toSorted());
    for (const field of fields) expect(json.error).toContain(`${field}: `);
    const types = await call("POST", "/alerts", { ...wrong, metric: 1, post: "" });
    expect(types.json.error).toBe("Bad JSON syntax received in body");
    expect(types.json.faults).toHaveLength(Object.keys(wrong).length);
    expect((await call("GET", "/alerts")).text).toBe("[]\n");
  });

  it("keeps quotes, SQL, markup and odd Unicode in values as they are", async () => {
    const text = `'; DROP TABLE alerts --"\\\n\u0000<b>&\u2028\u{1f600}`;
    const sent = { ...LEAST, metric: text, tags: { [text]: text, __proto__x: "y" }, group_by: [text] };
    const { id } = await create(sent);
    const { text: raw, json } = await call("GET", `/alerts/${id}`);
    expect(json).toMatchObject(sent);
    expect(raw).not.toMatch(/[<>&\u2028]/);
    const halved = await create({ ...LEAST, metric: "\ud800x" });
    expect(halved.metric).toBe("\ufffdx");
    expect((await call("GET", "/alerts")).json).toHaveLength(2);
  });

  it("takes group_by and no_data, and answers them", async () => {
    const { id } = await create({ ...LEAST, group_by: ["host"], no_data: "breach" });
    expect((await call("GET", `/alerts/${id}`)).json).toMatchObject({ group_by: ["host"], no_data: "breach" });
  });

  it("refuses a body over 1 MiB with 413, also one without an end", async () => {
    const { status, json } = await call("POST", "/alerts", `"${"x".repeat(1_048_576)}"`);
    expect([status, json.error]).toEqual([413, "the body is larger than 1048576 bytes"]);
    const endless = await new Promise<number | undefined>((resolve, reject) => {
      const sending = request(`${server.url}/alerts`, { method: "POST" }, (response) => {
        resolve(response.statusCode);
        sending.destroy();
      });
      sending.on("error", reject);
      const chunk = Buffer.alloc(65_536, "x");
      const send = () => {
        while (!sending.destroyed && sending.write(chunk));
      };
      sending.on("drain", send);
      send();
    });
    expect(endless).toBe(413);
  });
});

describe("PUT /alerts", () => {
  it("replaces the alert of the id in the body, with defaults for what is not sent", async () => {
    const { id } = await create(FULL);
    const { status, json } = await call("PUT", "/alerts", { ...LEAST, id, threshold: "90" });
    expect(status).toBe(200);
    const expected = { id, metric: "cpu_used", level: "crit", operator: "", threshold: "90", duration: "5m" };
    expect(json).toEqual({ ...expected, post: LEAST.post });
    expect((await call("GET", "/alerts")).json).toEqual([json]);
  });

  it("takes the id from the path when it is one and the body has none", async () => {
    const { id } = await create(FULL);
    expect((await call("PUT", `/alerts/${id}`, LEAST)).json).toMatchObject({ id, threshold: 80 });
    expect((await call("GET", "/alerts")).json).toHaveLength(1);
  });

  it("creates without an id", async () => {
    const { json } = await call("PUT", "/alerts", LEAST);
    expect(json.id).toMatch(UUID);
    expect((await call("PUT", "/alerts/anything", LEAST)).json.id).not.toBe(json.id);
  });

  it.each([[UNKNOWN], ["nonsense"], ["*"], ["x' OR 1=1"]])("answers 404 to the unknown id %j", async (id) => {
    const { status, text } = await call("PUT", "/alerts", { ...LEAST, id });
    expect([status, text]).toEqual([404, '{"error":"Not Found"}\n']);
    expect((await call("GET", "/alerts")).text).toBe("[]\n");
  });

  it("answers 404 to the id of a deleted alert, and leaves it deleted", async () => {
    const { id } = await create(LEAST);
    await call("DELETE", `/alerts/${id}`);
    expect((await call("PUT", "/alerts", { ...LEAST, id })).status).toBe(404);
    expect((await call("GET", `/alerts/${id}`)).status).toBe(404);
  });
});

describe("GET and DELETE", () => {
  it("GET /alerts answers alert objects, the oldest first, and [] without any", async () => {
    expect((await call("GET", "/alerts")).text).toBe("[]\n");
    const made = [];
    for (const metric of ["c", "a", "b"]) made.push(await create({ ...LEAST, metric }));
    expect((await call("GET", "/alerts")).json).toEqual(made);
  });

  it.each([[UNKNOWN], ["*"], ["a%27b"], ["%2a"]])("GET /alerts/%s answers 404", async (id) => {
    await create(LEAST);
    const { status, text } = await call("GET", `/alerts/${id}`);
    expect([status, text]).toEqual([404, '{"error":"Not Found"}\n']);
  });

  it("DELETE /alerts/{id} succeeds for an alert, again, and for what never was one", async () => {
    const { id } = await create(LEAST);
    const kept = await create(LEAST);
    for (const each of [id, id, UNKNOWN, "nonsense"]) {
      const { status, text } = await call("DELETE", `/alerts/${each}`);
      expect([status, text]).toEqual([200, '{"msg":"Success"}\n']);
    }
    expect((await call("GET", "/alerts")).json).toEqual([kept]);
  });
});

describe("paths and methods", () => {
  it("match as prefixes", async () => {
    const { id } = await create(LEAST, "/alertsXYZ");
    await create(LEAST, "/alerts/anything/more");
    for (const path of ["/alerts", "/alertsXYZ", "/alerts/", "/alerts.json"]) {
      expect((await call("GET", path)).json, path).toHaveLength(2);
    }
    expect((await call("GET", `/alerts/${id}/more`)).json).toMatchObject({ id });
    expect((await call("DELETE", `/alerts/${id}/more`)).status).toBe(200);
    expect((await call("GET", "/alerts")).json).toHaveLength(1);
  });

  it.each([
    ["DELETE", "/alerts"],
    ["DELETE", "/alertsXYZ"],
    ["PATCH", "/alerts"],
    ["HEAD", "/alerts"],
    ["GET", "/alert"],
  ])("%s %s has no route", async (method, path) => {
    const { status, text, headers } = await call(method, path);
    expect([status, headers.get("content-type")]).toEqual([404, "text/plain; charset=utf-8"]);
    if (method !== "HEAD") expect(text).toBe("404 page not found\n");
  });

  it("an unclean path is redirected, OPTIONS answers Success", async () => {
    const { status, headers } = await call("GET", "//alerts/..//alerts");
    expect([status, headers.get("location")]).toEqual([301, "/alerts"]);
    const options = await call("OPTIONS", "/alerts");
    expect([options.status, options.text]).toEqual([200, '{"msg":"Success"}\n']);
  });

  it("web pages that nobody named see no alert, and no address that one calls", async () => {
    await create(FULL);
    const { status, text } = await call("GET", "/alerts", undefined, { origin: "https://evil.example" });
    expect(status).toBe(403);
    expect(text).not.toContain("127.0.0.1/alert");
    expect((await call("GET", "/alerts")).text).toContain("127.0.0.1/alert");
  });

  it("ask for the token first, in the header or the query", async () => {
    await using guarded = await startAlertsServer(warehouse, { token: "secret" });
    const ask = (path: string, headers: Record<string, string> = {}) =>
      fetch(`${guarded.url}${path}`, { method: "POST", headers, body: JSON.stringify(LEAST) });
    const refused = await ask("/alerts");
    expect([refused.status, await refused.text(), refused.headers.get("access-control-allow-origin")]).toEqual([
      ...[401, "", null],
    ]);
    expect((await ask("/alerts", { "x-auth-token": "secret" })).status).toBe(200);
    const form = { "content-type": "application/x-www-form-urlencoded" };
    expect((await ask("/alerts?X-AUTH-TOKEN=secret", form)).status).toBe(200);
  });
});

describe("an address that webhooks may not go to", () => {
  let guarded: AlertsServer;
  beforeAll(async () => {
    guarded = await startAlertsServer(warehouse, { webhookAllowPrivate: false });
  });
  afterAll(() => guarded[Symbol.asyncDispose]());

  const write = async (method: string, body: object, query = "") => {
    const response = await fetch(`${guarded.url}/alerts${query}`, { method, body: JSON.stringify(body) });
    const warning = response.headers.get("x-millrace-warning");
    return { status: response.status, warning, json: (await response.json()) as Record<string, unknown> };
  };

  it.each([
    "http://127.0.0.1/alert",
    "http://localhost:9/",
    "http://[::1]/",
    "http://169.254.169.254/",
    "http://10.1:80/",
  ])("%s is taken, and its alert said to reach nobody", async (post) => {
    const made = await write("POST", { ...LEAST, post });
    expect(made.status).toBe(200);
    expect(made.warning).toMatch(/^webhooks to this address will not be sent: .*--webhook-allow-private/);
    expect(Object.entries(made.json).at(-1)).toEqual(["warning", made.warning]);
    const changed = await write("PUT", { ...LEAST, id: made.json.id, post });
    expect(changed).toMatchObject({ status: 200, warning: made.warning });
    const original = await write("POST", { ...LEAST, threshold: "80", post }, "?compat=code");
    expect(original).toMatchObject({ status: 200, warning: made.warning });
    expect(original.json).not.toHaveProperty("warning");
  });

  it.each(["https://1.1.1.1/hook", "https://no-such-name.invalid/"])(
    "%s is none, as far as can be told",
    async (post) => {
      const { status, warning, json } = await write("POST", { ...LEAST, post });
      expect([status, warning, "warning" in json]).toEqual([200, null, false]);
    },
  );

  it("is told by the AlertService too", async () => {
    let warning: string | null = null;
    const client = createClient(AlertService, createConnectTransport({ baseUrl: guarded.url, httpVersion: "1.1" }));
    const onHeader = (headers: Headers) => {
      warning = headers.get("x-millrace-warning");
    };
    const definition = { ...LEAST, post: "http://192.168.0.1/" };
    const { alert } = await client.createAlert({ definition }, { onHeader });
    expect(warning).toContain("192.168.0.1 is a private address");
    warning = null;
    await client.updateAlert({ id: alert?.id ?? "", definition }, { onHeader });
    expect(warning).toContain("192.168.0.1 is a private address");
  });
});

describe("with ClickHouse away", () => {
  it("every route answers 503 and when to try again", async () => {
    const nowhere = createClickHouseWarehouse({ ...clickhouse.connection, url: "http://127.0.0.1:1", database: "x" });
    await using away = await startAlertsServer(nowhere);
    const body = JSON.stringify({ ...LEAST, id: UNKNOWN });
    for (const [method, path] of [
      ...[
        ["GET", "/alerts"] as const,
        ["GET", `/alerts/${UNKNOWN}`] as const,
        ["DELETE", `/alerts/${UNKNOWN}`] as const,
      ],
      ...[["POST", "/alerts"] as const, ["PUT", "/alerts"] as const],
    ]) {
      const response = await fetch(
        `${away.url}${path}`,
        method === "POST" || method === "PUT" ? { method, body } : { method },
      );
      expect([response.status, response.headers.get("retry-after")], `${method} ${path}`).toEqual([503, "2"]);
      expect(await response.json()).toEqual({ error: expect.stringContaining("ClickHouse cannot be used now") });
    }
    await nowhere[Symbol.asyncDispose]();
  });
});

describe("compat=code", () => {
  const path = "/alerts?compat=code";

  it("takes the threshold as text only, and says no more than the original did", async () => {
    const { status, text } = await call("POST", path, LEAST);
    expect([status, text]).toEqual([400, '{"error":"Bad JSON syntax received in body"}\n']);
    const missing = await call("POST", path, { ...LEAST, threshold: "80", metric: "" });
    expect(missing.text).toBe('{"error":"Missing value in payload"}\n');
    const refused = await call("POST", path, { ...LEAST, threshold: "80", level: "x", duration: "x" });
    expect(refused.json).toEqual({ error: expect.stringMatching(/^Failed to create task - level: .*; duration: /) });
  });

  it("PUT makes a second alert whatever id it names", async () => {
    const { id } = await create(FULL, path);
    const { status, json } = await call("PUT", path, { ...FULL, id });
    expect(status).toBe(200);
    expect(json.id).toMatch(UUID);
    expect(json.id).not.toBe(id);
    expect((await call("PUT", `/alerts/${id}?compat=code`, FULL)).json.id).not.toBe(id);
    expect((await call("GET", "/alerts")).json).toHaveLength(3);
  });

  it("ignores what the original did not know, and answers a number as text", async () => {
    const made = await create({ ...FULL, group_by: 5, no_data: "x" }, path);
    expect(made).not.toHaveProperty("group_by");
    const { id } = await create({ ...LEAST, group_by: ["host"], no_data: "breach" });
    const { json } = await call("GET", `/alerts/${id}?compat=code`);
    expect(json.threshold).toBe("80");
    expect(Object.keys(json)).toEqual(["id", "metric", "level", "operator", "threshold", "duration", "post"]);
    const listed = await call("GET", path);
    expect(listed.json).toEqual([made, json]);
  });

  it("is the default with PULSE_COMPAT=code, and ?compat=readme turns back", async () => {
    await using code = await startAlertsServer(warehouse, { compat: "code" });
    const post = (query: string) =>
      fetch(`${code.url}/alerts${query}`, { method: "POST", body: JSON.stringify(LEAST) });
    expect((await post("")).status).toBe(400);
    expect((await post("?compat=readme")).status).toBe(200);
  });
});
