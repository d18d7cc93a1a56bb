// What @millrace/browser captures, as rows: real Chromium, pages of one origin, `millrace start` at another.
import { readFile } from "node:fs/promises";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, deviceOf, startBrowserSuite } from "./support/suite.ts";

const chromium = chromiumForTests();
const QUIET = { capturePageview: false } as const;

let suite: BrowserSuite;
beforeAll(async () => {
  if (chromium.available) suite = await startBrowserSuite(chromium);
});
afterAll(() => suite?.[Symbol.asyncDispose]());

const flush = (page: Page) => page.evaluate(() => window.millrace.flush());

describe.skipIf(!chromium.available)("a page", () => {
  it("has its pageview, events, person and alias in ClickHouse", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(
      await context.newPage(),
      suite.url({ register: { plan: "pro" } }, { path: "/shop" }),
    );
    await page.evaluate(() => {
      const { millrace } = window;
      millrace.capture("cart", { items: 2, $set: { color: "blue" } });
      millrace.identify("ada", { email: "ada@example.com" }, { first: "page" });
      millrace.identify("ada", { email: "ada@example.org" });
      millrace.alias("ada-at-work");
      millrace.capture("other", {}, { distinct_id: "somebody", timestamp: new Date("2026-01-02T03:04:05Z") });
    });
    const device = await deviceOf(page);
    await flush(page);
    const rows = await suite.landed(page, 6);
    const byName = Object.fromEntries(rows.map((row) => [row.event, row]));
    expect(rows.map(({ event }) => event)).toEqual([
      "$pageview",
      "cart",
      "$identify",
      "$set",
      "$create_alias",
      "other",
    ]);
    // Its own time, but for how late the request came.
    expect(byName.other?.timestamp).toContain("2026-01-02 03:0");
    const { origin } = suite.pages;
    expect(byName.$pageview?.all).toMatchObject({ $host: new URL(origin).host, $pathname: "/shop", $title: "Page" });
    expect(byName.cart).toMatchObject({ distinct_id: device, all: { items: 2, $lib: "millrace-browser" } });
    // That of what was registered after it is not in the pageview.
    expect([byName.cart?.all.plan, byName.$pageview?.all.plan]).toEqual(["pro", undefined]);
    expect(byName.$identify?.all).toMatchObject({ $anon_distinct_id: device, $set_once: { first: "page" } });
    expect(byName.$create_alias?.all).toMatchObject({ alias: "ada-at-work", $user_id: "ada" });
    expect(byName.other?.distinct_id).toBe("somebody");
    // The person before identify and after it.
    await suite.untilCount(
      `SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('${device}', 'ada')`,
      1,
    );
    const person = await suite.rows<{ properties: string }>(
      "SELECT properties FROM millrace.persons WHERE distinct_id = 'ada'",
    );
    expect(JSON.parse(person[0]?.properties ?? "{}")).toMatchObject({ email: "ada@example.org", first: "page" });
    await context.close();
  });

  it("counts a navigation in its history once for each address, and leaving it once", async () => {
    const context = await suite.newVisitor();
    const url = suite.url({ options: { capturePageview: "history_change" } });
    const page = await suite.visit(await context.newPage(), url);
    await page.evaluate(() => {
      history.pushState({}, "", "/two");
      history.pushState({}, "", "/two");
      history.replaceState({}, "", "/two");
      history.pushState({}, "", "/three");
    });
    await page.goBack();
    await page.waitForURL("**/two");
    const device = await deviceOf(page);
    await page.close();
    const rows = await suite.landed(page, 5, device);
    const paths = rows.map(({ event, all }) => `${event} ${all.$pathname}`);
    expect(paths).toEqual(["$pageview /", "$pageview /two", "$pageview /three", "$pageview /two", "$pageleave /two"]);
    await context.close();
  });

  it("captures clicks and submissions by itself, and nothing that is private", async () => {
    const context = await suite.newVisitor();
    const options = { ...QUIET, autocapture: { captureText: true } };
    const page = await suite.visit(await context.newPage(), suite.url({ options }));
    // The listeners come with a chunk of their own.
    await page.waitForFunction(() => performance.getEntriesByType("resource").some((e) => e.name.includes("autocapt")));
    await page.waitForLoadState("networkidle");
    // Beside the <b> in its middle.
    await page.click("#buy", { position: { x: 5, y: 5 } });
    await page.click("#plain");
    await page.click("#private");
    await page.fill("#user", "typed-by-hand");
    await page.fill("#word", "secret-password");
    await page.fill("#marked", "secret-too");
    await page.fill("#pin", "4111 1111 1111 1111");
    await page.evaluate(() => document.querySelector("#hid")?.dispatchEvent(new Event("change", { bubbles: true })));
    await page.evaluate(() => document.querySelector<HTMLFormElement>("#login")?.requestSubmit());
    await page.click("#go");
    // A form whose field is called id has that field in the place of its own.
    await page.evaluate(() => {
      document.body.insertAdjacentHTML("beforeend", '<form id="edit"><input type="hidden" name="id" value="7"></form>');
      const submitted = new SubmitEvent("submit", { bubbles: true });
      document.querySelector("form#edit")?.dispatchEvent(submitted);
    });
    await flush(page);
    const rows = await suite.landed(page, 5);
    const seen = rows.map(({ all }) => `${all.$event_type} ${all.$el_id}`);
    expect(seen).toEqual(["click buy", "change user", "submit login", "click go", "submit edit"]);
    expect(rows[4]?.all.$elements_chain).toBe("form#edit > body > html");
    expect(rows[0]?.all).toMatchObject({
      $el_tag_name: "button",
      $el_text: "Buy",
      $el_classes: ["big", "red"],
      $elements_chain: "button#buy.big.red > body > html",
    });
    const everything = rows.map(({ properties }) => properties).join();
    expect(everything).not.toMatch(/typed-by-hand|secret|4111|#word|#pin|#hid|#marked|private/);
    await context.close();
  });

  it("is silent for a visitor who opted out, before init too, and speaks again when asked to", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ optOut: true }));
    expect(await page.evaluate(() => window.millrace.has_opted_out_capturing())).toBe(true);
    expect(await page.evaluate(() => window.millrace.capture("no")?.event)).toBeUndefined();
    // Kept for the next page, and for the other tab.
    const second = await suite.visit(await context.newPage(), suite.url());
    expect(await second.evaluate(() => window.millrace.capture("no")?.event)).toBeUndefined();
    await second.evaluate(() => window.millrace.opt_in_capturing());
    // What one tab stores is told to the process of the other.
    await expect.poll(() => page.evaluate(() => window.millrace.has_opted_out_capturing())).toBe(false);
    expect(await page.evaluate(() => window.millrace.capture("yes")?.event)).toBe("yes");
    await flush(page);
    expect((await suite.landed(page, 1)).map(({ event }) => event)).toEqual(["yes"]);
    await context.close();
  });

  it("keeps ids, properties and opt-out of a page that used clickhouse-product-analytics", async () => {
    const context = await suite.newVisitor();
    await context.addInitScript(() => {
      const ids = { distinctId: "known-before", deviceId: "device-before", userState: "identified" };
      const state = { ...ids, optedOut: true, superProperties: { plan: "pro" } };
      localStorage.setItem("clickhouse_product_analytics", JSON.stringify(state));
    });
    const page = await suite.visit(await context.newPage(), suite.url());
    expect(await page.evaluate(() => window.millrace.has_opted_out_capturing())).toBe(true);
    await page.evaluate(() => {
      window.millrace.opt_in_capturing();
      window.millrace.identify("known-before");
      window.millrace.capture("after the change");
    });
    await flush(page);
    const [row, ...more] = await suite.landed(page, 1, "device-before");
    expect(row).toMatchObject({ event: "after the change", distinct_id: "known-before", all: { plan: "pro" } });
    expect(more).toEqual([]);
    await context.close();
  });

  it("has one session over its tabs, a window for each, and a new session after a pause", async () => {
    const context = await suite.newVisitor();
    // The visitor's clock, which the tests can set.
    await context.addInitScript(() => {
      const { now } = Date;
      Date.now = () => now() + Number(window.name || 0);
    });
    const url = suite.url({ options: QUIET });
    const first = await suite.visit(await context.newPage(), url);
    const second = await suite.visit(await context.newPage(), url);
    await first.evaluate(() => window.millrace.capture("a"));
    await second.evaluate(() => window.millrace.capture("b"));
    await suite.visit(second, url);
    await second.evaluate(() => window.millrace.capture("c"));
    await first.evaluate(async () => {
      window.name = String(29 * 60_000);
      window.millrace.capture("d");
      window.name = String(60 * 60_000);
      window.millrace.capture("e");
      window.name = "0";
      window.millrace.capture("f");
      await window.millrace.flush();
    });
    const rows = await suite.landed(first, 6);
    const [a, b, c, d, e, f] = ["a", "b", "c", "d", "e", "f"].map((name) => rows.find(({ event }) => event === name));
    expect([b?.session_id, b?.window_id === a?.window_id]).toEqual([a?.session_id, false]);
    expect(c?.window_id).toBe(b?.window_id);
    expect([d?.session_id, d?.window_id]).toEqual([a?.session_id, a?.window_id]);
    // After a pause, and after the clock was set back by an hour.
    expect(new Set([a, e, f].map((row) => row?.session_id)).size).toBe(3);
    expect(new Set([a, e, f].map((row) => row?.window_id)).size).toBe(3);
    await context.close();
  });

  it("sends what a page may pass: cycles, too much, too deep, denied at any depth", async () => {
    const context = await suite.newVisitor();
    const options = { ...QUIET, propertyDenylist: ["secret"] };
    const page = await suite.visit(await context.newPage(), suite.url({ options }));
    const uuid = await page.evaluate(() => {
      const cycle: Record<string, unknown> = { secret: 1, deep: { secret: 2, kept: 3 }, big: 10n, node: document.body };
      cycle.self = cycle;
      let deep: unknown = "bottom";
      for (let i = 0; i < 10_000; i++) deep = { deep };
      const wide = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`key${i}`, i]));
      const at = new Date(0);
      const proto = JSON.parse('{"__proto__": {"a": 1}, "constructor": {"prototype": 1}}');
      const huge = Array.from({ length: 100 }, () => "\u{1f600}".repeat(40_000));
      Object.defineProperty(proto, "trap", { enumerable: true, get: () => JSON.parse("{") });
      const event = window.millrace.capture("odd", { cycle, proto, at, $set: { secret: 4 }, deep, huge, wide });
      return event?.uuid;
    });
    await flush(page);
    const [row] = await suite.landed(page, 1);
    expect(await suite.standalone.query("SELECT toString(uuid) FROM millrace.events WHERE event = 'odd'")).toBe(uuid);
    expect(row?.all).toMatchObject({
      cycle: { self: "[Circular]", big: "10", node: "[Node]", deep: { kept: 3 } },
      proto: { trap: "[Unreadable]" },
      at: "1970-01-01T00:00:00.000Z",
      $lib: "millrace-browser",
    });
    expect(row?.properties).not.toContain("secret");
    await context.close();
  });

  it("survives 10,000 captures in a second, and counts what it drops", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    const { ms, counters } = await page.evaluate(async () => {
      const start = performance.now();
      for (let i = 0; i < 10_000; i++) window.millrace.capture("flood", { i });
      const ms = performance.now() - start;
      await window.millrace.flush();
      return { ms, counters: window.millrace.counters() };
    });
    process.stdout.write(`10,000 captures: ${Math.round(ms)} ms\n`);
    expect(counters).toMatchObject({ captured: 10_000, sent: 1000, overflow: 9000, queued: 0 });
    const kept = (await suite.landed(page, 1000)).map(({ all }) => Number(all.i));
    expect([Math.min(...kept), Math.max(...kept)]).toEqual([9000, 9999]);
    await context.close();
  });

  it("has one end for each event of a flood that goes on while it is sent", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    const { captured, sent, overflow, queued } = await page.evaluate(async () => {
      for (let i = 0; i < 50; i++) {
        for (let j = 0; j < 100; j++) window.millrace.capture("waves", { i, j });
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await window.millrace.flush();
      return window.millrace.counters();
    });
    expect({ captured, queued, ends: sent + overflow }).toEqual({ captured: 5000, queued: 0, ends: 5000 });
    await suite.landed(page, sent);
    await context.close();
  });

  it("works under a strict Content-Security-Policy", async () => {
    const context = await suite.newVisitor();
    const policy = `default-src 'none'; script-src 'self'; connect-src ${suite.standalone.url}; require-trusted-types-for 'script'`;
    const options = { autocapture: true };
    const url = suite.url({ options }, { headers: { "content-security-policy": policy } });
    const page = await suite.visit(await context.newPage(), url);
    await page.waitForLoadState("networkidle");
    await page.click("#buy");
    await page.evaluate(() => window.millrace.flush());
    const rows = await suite.landed(page, 2);
    expect(rows.map(({ event }) => event)).toEqual(["$pageview", "$autocapture"]);
    expect(await page.evaluate(() => window.violations)).toEqual([]);
    await context.close();
  });
});

it.skipIf(!chromium.available)("the example of the README lands its rows", async () => {
  const readme = await readFile(new URL("../../sdk/browser/README.md", import.meta.url), "utf8");
  const [, example = ""] = /```js\n([^`]+)```/.exec(readme) ?? [];
  const context = await suite.newVisitor();
  const page = await context.newPage();
  await page.goto(suite.pages.url({}));
  const content = example
    .replace("@millrace/browser", "/sdk/index.js")
    .replace("https://events.example.com", suite.standalone.url);
  await page.addScriptTag({ type: "module", content });
  await expect.poll(() => deviceOf(page)).toBeTypeOf("string");
  const rows = await suite.landed(page, 3);
  expect(rows.map(({ event }) => event)).toEqual(["$pageview", "signup_started", "$identify"]);
  await context.close();
});
