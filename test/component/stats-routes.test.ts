// pulse's API as all of its routes share it (sections 1.1 and 1.2): tokens, CORS, paths, lists of names.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callH1, connectH2 } from "../kit/http-calls.ts";
import { startTestStats, storePoints, type TestStats } from "../kit/stats.ts";

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-methods": "GET, POST, PUT, DELETE",
  "access-control-allow-headers": "X-AUTH-TOKEN, X-CSRF-Token",
};

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let plain: TestStats;
let guarded: TestStats;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("routes");
  warehouse = clickhouse.warehouse("routes");
  await storePoints(warehouse, [
    { metric: "cpu_used", value: 1, tags: { host: "a" }, agoMs: 1_000 },
    { metric: "<ram> & co", value: 2, tags: { host: "a", service: "web" }, agoMs: 1_000 },
    { metric: "a", value: 3, agoMs: 1_000 },
    { metric: "a/b", value: 99, agoMs: 1_000 },
    { metric: "a//b", value: 98, agoMs: 1_000 },
    { metric: "a%b", value: 97, agoMs: 1_000 },
    { metric: "a%2Fb", value: 96, agoMs: 1_000 },
    { metric: "a/../b", value: 95, agoMs: 1_000 },
    { metric: "/", value: 94, agoMs: 1_000 },
    { metric: "a?b#c", value: 93, agoMs: 1_000 },
    { metric: "http://a", value: 92, agoMs: 1_000 },
  ]);
  plain = await startTestStats(warehouse);
  guarded = await startTestStats(warehouse, { statsToken: "s&cret=1" }, [
    (request, response) => {
      if (request.url !== "/mounted") return false;
      response.end("mounted");
      return true;
    },
  ]);
});
afterAll(async () => {
  await plain?.[Symbol.asyncDispose]();
  await guarded?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

describe("a token", () => {
  it.each(["/ping", "/keys", "/latest/cpu_used", "/alerts", "/nope", "//keys"])(
    "is asked for at %s: 401, no body, no CORS headers",
    async (path) => {
      const answer = await guarded.get(path);
      expect(answer).toMatchObject({ status: 401, text: "" });
      expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
    },
  );

  it("is taken from the header in any case, or from the query where there is none", async () => {
    await using secret = await startTestStats(warehouse, { statsToken: "secret" });
    const statusOf = async (path: string, headers = {}) => (await secret.get(path, { headers })).status;
    expect(await statusOf("/ping", { "X-Auth-Token": "secret" })).toBe(200);
    expect(await statusOf("/ping", { authorization: "Bearer secret" })).toBe(200);
    expect(await statusOf("/ping?X-AUTH-TOKEN=secret")).toBe(200);
    expect(await statusOf("/ping?X-AUTH-TOKEN=secret", { "X-AUTH-TOKEN": "" })).toBe(200);
    expect(await statusOf("/ping?X-AUTH-TOKEN=secret", { "X-AUTH-TOKEN": "wrong" })).toBe(401);
    expect(await statusOf("/ping?x-auth-token=secret")).toBe(401);
    expect(await statusOf("/ping?X-AUTH-TOKEN=wrong&X-AUTH-TOKEN=secret")).toBe(401);
    expect(await statusOf("/ping?X-AUTH-TOKEN=")).toBe(401);
  });

  it("in the query may have any characters, and is no filter", async () => {
    expect((await guarded.get("/latest/cpu_used?X-AUTH-TOKEN=s%26cret%3D1")).status).toBe(200);
  });

  it("is needed neither for OPTIONS, nor for health and metrics, nor for what has rules of its own", async () => {
    expect(await guarded.get("/any/path", { method: "OPTIONS" })).toMatchObject({
      status: 200,
      text: '{"msg":"Success"}\n',
      headers: { ...CORS, "content-type": "application/json" },
    });
    expect((await guarded.get("/ping")).status, "OPTIONS opens nothing").toBe(401);
    expect(await guarded.get("/healthz")).toMatchObject({ status: 200, text: '{"status":"ok"}' });
    expect(await guarded.get("/readyz")).toMatchObject({ status: 200 });
    expect((await guarded.get("/metrics")).text).toContain('millrace_stats_requests_total{route="unauthorised"');
    expect(await guarded.get("/mounted")).toMatchObject({ status: 200, text: "mounted" });
  });

  it("is not asked for when none is set, but a web page may then change nothing", async () => {
    const post = (headers: Record<string, string>) => plain.get("/alerts", { method: "POST", body: "{}", headers });
    expect((await plain.get("/ping")).status).toBe(200);
    expect((await post({ origin: "https://evil.example" })).status).toBe(403);
    expect((await post({})).status).toBe(400);
    expect((await plain.get("/ping", { headers: { origin: "https://evil.example" } })).status).toBe(200);
  });
});

describe("CORS headers", () => {
  it.each([
    "/latest/cpu_used",
    "/latest/none",
    "/latest/x?verb=no",
    "/hourly/none",
    "/daily/none",
    "/daily_peaks/none",
  ])("are on %s, errors included", async (path) => expect((await plain.get(path)).headers).toMatchObject(CORS));

  it.each(["/keys", "/tags", "/ping", "/nope", "//keys"])("are not on %s", async (path) => {
    expect((await plain.get(path)).headers).not.toHaveProperty("access-control-allow-origin");
  });

  it("name the origin of CORS_ALLOW", async () => {
    await using stats = await startTestStats(warehouse, { corsAllow: "https://app.example" });
    const { headers } = await stats.get("/latest/cpu_used");
    expect(headers["access-control-allow-origin"]).toBe("https://app.example");
  });
});

describe("answers", () => {
  it("are JSON as Go writes it: compact, a line break at the end, < > & escaped", async () => {
    expect(await plain.get("/keys")).toMatchObject({
      status: 200,
      headers: { "content-type": "application/json" },
      text: '["/","\\u003cram\\u003e \\u0026 co","a","a%2Fb","a%b","a/../b","a//b","a/b","a?b#c","cpu_used","http://a"]\n',
    });
    expect((await plain.get("/tags")).text).toBe('["host","service"]\n');
  });

  it("are null where nothing is stored, not [] (pitfall 1)", async () => {
    await clickhouse.migrate("empty");
    await using stats = await startTestStats(clickhouse.warehouse("empty"));
    expect([(await stats.get("/keys")).text, (await stats.get("/tags")).text]).toEqual(["null\n", "null\n"]);
  });

  it("to /ping are pong without a line break", async () => {
    expect(await plain.get("/ping")).toMatchObject({
      text: "pong",
      headers: { "content-type": expect.stringContaining("text/plain") },
    });
  });

  it.each([
    ["GET", "/latest"],
    ["GET", "/latest/"],
    ["GET", "/daily_peak/x"],
    ["GET", "/hourlyx/cpu_used"],
    ["HEAD", "/ping"],
    ["HEAD", "/latest/cpu_used"],
    ["POST", "/keys"],
    ["DELETE", "/alerts"],
  ])("to %s %s are 404 as text (pitfall 9)", async (method, path) => {
    const answer = await plain.get(path, { method });
    expect(answer).toMatchObject({ status: 404, headers: { "content-type": "text/plain; charset=utf-8" } });
    if (method !== "HEAD") expect(answer.text).toBe("404 page not found\n");
  });
});

describe("paths", () => {
  it("match as prefixes", async () => {
    expect((await plain.get("/keysXYZ")).text).toContain("cpu_used");
    expect((await plain.get("/tags/of/what")).text).toContain("host");
    for (const path of ["/latest/cpu_used/more", "/latest/cpu_used"]) {
      expect((await plain.get(path)).text).toContain('"value":1}');
    }
  });

  it.each([
    ["a", 3],
    ["a/b", 99],
    ["a//b", 98],
    ["a%b", 97],
    ["a%2Fb", 96],
    ["a/../b", 95],
    ["/", 94],
    ["a?b#c", 93],
    ["http://a", 92],
  ])("find the stat %s, escaped, and no other", async (metric, value) => {
    const stat = encodeURIComponent(metric);
    for (const path of [`/latest/${stat}`, `/latest/${stat}/more`]) {
      expect(await plain.json(path), path).toMatchObject({ value });
    }
    for (const path of [`/latest/${stat}x`, `/latest${encodeURIComponent(`/${metric}`)}`]) {
      expect((await plain.get(path)).status, path).toBe(404);
    }
  });

  it.each(["http://h", "HTTP://h:8081", "https://user@[::1]:1"])(
    "behind %s are the same paths (RFC 9112, section 3.2.2)",
    async (origin) => {
      expect((await plain.get(`${origin}/healthz`)).text).toBe('{"status":"ok"}');
      expect((await plain.get(`${origin}/latest/a%2Fb?verb=max`)).text).toContain('"value":99}');
      expect((await plain.get(`${origin}//keys`)).headers).toMatchObject({ location: "/keys" });
      expect((await plain.get(`${origin}?x=1`)).text).toContain("/keys");
    },
  );

  it("a person who opens the port is told what there is", async () => {
    const { status, text, headers } = await plain.get("/");
    expect([status, headers["content-type"]]).toEqual([200, "text/plain; charset=utf-8"]);
    for (const url of text.match(/http:\S+\/(?:keys|tags|alerts|readyz)\b/g) ?? []) {
      expect((await plain.get(new URL(url).pathname)).status, url).toBe(200);
    }
    expect(text).toContain(`curl ${plain.url}/keys`);
    expect((await guarded.get("/")).status).toBe(401);
  });

  it("give way to a caller's own :stat", async () => {
    expect((await plain.get("/latest/none?:stat=a")).text).toContain('"value":3}');
    expect((await plain.get("/latest/a?:stat=none")).status).toBe(404);
  });

  it.each([
    ["//keys?x=1", "/keys"],
    ["/a/../latest/cpu_used", "/latest/cpu_used"],
    ["//evil.example/%0d%0aset-cookie:x", "/evil.example/%0D%0Aset-cookie%3Ax"],
    ["/./", "/"],
  ])("that are not clean are moved: %s to %s, without the query", async (path, location) => {
    expect(await plain.get(path)).toMatchObject({ status: 301, text: "", headers: { location } });
  });

  it("with invalid escapes are a 400", async () => {
    expect((await plain.get("/latest/%zz")).status).toBe(400);
    expect((await plain.get("/latest/%ff")).status).toBe(400);
  });
});

describe("hostile input", () => {
  it.each(["'", '"', "\\", "'; DROP TABLE points; --", "a\nb", "{x:String}", "file", "\u0001", "__proto__", "💥", "%"])(
    "%j as stat, tag and value is a name like any other",
    async (name) => {
      const text = encodeURIComponent(name);
      for (const path of [`/latest/${text}`, `/latest/cpu_used?${text}=${text}`, `/hourly/cpu_used?host=${text}`]) {
        expect(await plain.get(path), path).toMatchObject({ status: 404, text: '{"error":"Not Found"}\n' });
      }
      expect((await plain.get(`/latest/cpu_used?${text}=`)).status).toBe(200);
    },
  );

  it.each([
    ["a stat with a NUL", `/latest/%00`],
    ["a filter with a NUL", `/latest/cpu_used?host=%00`],
    ["filters by the hundred", `/latest/cpu_used?${Array.from({ length: 101 }, (_, i) => `t${i}=`).join("&")}`],
    ["values by the thousand", `/latest/cpu_used?${"h=&".repeat(1_001)}`],
    ["a verb with SQL in it", "/latest/cpu_used?verb=mean(value)%2C%201%20FROM%20x%20--"],
    ["a function of two arguments", "/hourly/cpu_used?verb=percentile"],
  ])("%s is a 400 that says so", async (_, path) => {
    const { status, text } = await plain.get(path);
    expect({ status, text }).toEqual({ status: 400, text: expect.stringMatching(/^\{"error":".+"\}\n$/) });
  });

  it("a hundred values of one tag are one filter", async () => {
    const hosts = Array.from({ length: 100 }, (_, i) => `host=${i}`).join("&");
    expect((await plain.get(`/latest/cpu_used?${hosts}&host=a`)).status).toBe(200);
  });

  it("a query of a megabyte is refused before it is read", async () => {
    const answer = await callH1(plain.port, `/latest/cpu_used?host=${"x".repeat(1_000_000)}`, { method: "GET" }).catch(
      // The connection may be reset while the rest is still being sent.
      () => ({ status: 431 }),
    );
    expect(answer.status).toBe(431);
    expect((await plain.get("/ping")).text).toBe("pong");
  });
});

it("HTTP/2 is answered on the same port", async () => {
  using connection = connectH2(plain.port);
  const answer = await connection.call("/latest/cpu_used", { method: "GET" });
  expect(answer).toMatchObject({ status: 200, headers: CORS });
  expect((await connection.call("/nope", { method: "GET" })).text).toBe("404 page not found\n");
});

it("requests are counted by route and status", async () => {
  const counted = (await plain.registry.getSingleMetric("millrace_stats_requests_total")?.get())?.values ?? [];
  const labels = counted.map((each) => each.labels);
  for (const label of [
    { route: "latest", status: "404" },
    { route: "keys", status: "200" },
    { route: "unclean", status: "301" },
  ]) {
    expect(labels).toContainEqual(label);
  }
});
