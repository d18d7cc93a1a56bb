import { createHmac, timingSafeEqual } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type WebhookContent, webhookBody, webhookId, webhookSignature } from "./webhook-payload.ts";

const tags = { host: `a"<b>&'+`, dc: "eu" };
const content: WebhookContent = {
  transitionId: "0190a1b2-0000-8000-8000-000000000001",
  alertId: "785ba395-0000-4000-8000-000000000002",
  id: webhookId("cpu_used", tags),
  metric: "cpu_used",
  ...{ tags, group: { dc: "eu" }, level: "warn", previousLevel: "ok", value: 81.5 },
  atMs: Date.UTC(2026, 0, 2, 3, 4, 35),
  windowStartMs: Date.UTC(2026, 0, 2, 3, 4, 5),
  leftOkAtMs: Date.UTC(2026, 0, 2, 3, 4, 35),
};

describe("a webhook's body", () => {
  it("is what receivers of pulse's alerts know, with ids added, on one line", () => {
    const body = webhookBody(content);
    expect(body.indexOf("\n")).toBe(body.length - 1);
    const { details, ...rest } = JSON.parse(body);
    const id = `[eu|a"<b>&'+] cpu_used`;
    expect(rest).toEqual({
      id,
      message: `${id} is WARNING value:81.5`,
      time: "2026-01-02T03:04:05.000Z",
      duration: 0,
      level: "WARNING",
      data: {
        series: [
          {
            name: "cpu_used",
            columns: ["time", "mean_cpu_used"],
            values: [["2026-01-02T03:04:05.000Z", 81.5]],
          },
        ],
      },
      previousLevel: "OK",
      alertId: "785ba395-0000-4000-8000-000000000002",
      transitionId: "0190a1b2-0000-8000-8000-000000000001",
      group: { dc: "eu" },
    });
    expect(details).toBe(
      "{&#34;Name&#34;:&#34;cpu_used&#34;,&#34;TaskName&#34;:&#34;785ba395-0000-4000-8000-000000000002&#34;," +
        "&#34;Group&#34;:&#34;dc=eu&#34;," +
        "&#34;Tags&#34;:{&#34;host&#34;:&#34;a\\&#34;&lt;b&gt;&amp;&#39;&#43;&#34;,&#34;dc&#34;:&#34;eu&#34;}," +
        "&#34;ID&#34;:&#34;[eu|a\\&#34;&lt;b&gt;&amp;&#39;&#43;] cpu_used&#34;," +
        "&#34;Fields&#34;:{&#34;mean_cpu_used&#34;:81.5},&#34;Level&#34;:&#34;WARNING&#34;," +
        "&#34;Time&#34;:&#34;2026-01-02T03:04:05.000Z&#34;,&#34;Duration&#34;:0," +
        "&#34;Message&#34;:&#34;[eu|a\\&#34;&lt;b&gt;&amp;&#39;&#43;] cpu_used is WARNING value:81.5&#34;}",
    );
  });

  it("dates a recovery by its evaluation, and says in whole nanoseconds how long it was not ok", () => {
    const recovery = { ...content, level: "ok", previousLevel: "crit", leftOkAtMs: content.atMs - 90_001 } as const;
    const body = webhookBody(recovery);
    expect(JSON.parse(body)).toMatchObject({ time: "2026-01-02T03:04:35.000Z", duration: 90_001_000_000, level: "OK" });
    const years = webhookBody({ ...recovery, leftOkAtMs: content.atMs - 1e11 });
    expect(years).toContain('"duration":100000000000000000,');
  });

  it.each([
    ["ok", "OK"],
    ["info", "INFO"],
    ["warn", "WARNING"],
    ["crit", "CRITICAL"],
  ] as const)("says %s as %s", (level, word) => {
    expect(JSON.parse(webhookBody({ ...content, level })).level).toBe(word);
  });

  it("without points has no value, and of a test says so", () => {
    const body = JSON.parse(webhookBody({ ...content, value: undefined, isTest: true }));
    expect(body).toMatchObject({ test: true, message: expect.stringMatching(/is WARNING no data$/) });
    expect(body.data.series[0].values[0][1]).toBeNull();
  });
});

/** The example of docs/alerts.md. */
function isGenuine(secret: string, header: string, body: string, nowMs = Date.now()): boolean {
  const [, seconds, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (!seconds || !signature || Math.abs(nowMs / 1000 - Number(seconds)) > 300) return false;
  const expected = createHmac("sha256", secret).update(`${seconds}.${body}`).digest();
  return timingSafeEqual(expected, Buffer.from(signature, "hex"));
}

describe("a webhook's signature", () => {
  const nowMs = 1_790_000_000_123;
  const header = webhookSignature("s3cret", "{}\n", nowMs);

  it("is the HMAC of time and body", () => {
    const hex = createHmac("sha256", "s3cret").update("1790000000.{}\n").digest("hex");
    expect(header).toBe(`t=1790000000,v1=${hex}`);
  });

  it("is verified by the example, which refuses another body, secret or time", () => {
    expect(isGenuine("s3cret", header, "{}\n", nowMs)).toBe(true);
    expect(isGenuine("s3cret", header, "{ }\n", nowMs)).toBe(false);
    expect(isGenuine("other", header, "{}\n", nowMs)).toBe(false);
    expect(isGenuine("s3cret", header.replace("t=1790000000", "t=1790000001"), "{}\n", nowMs)).toBe(false);
    expect(isGenuine("s3cret", header, "{}\n", nowMs + 301_000)).toBe(false);
    expect(isGenuine("s3cret", "", "{}\n", nowMs)).toBe(false);
  });
});
