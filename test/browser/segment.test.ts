// @segment/analytics-next and @jitsu/js as npm has them, on a page of another origin, told the gateway's address and a key.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { jitsuAnalytics } from "@jitsu/js";
import type { AnalyticsBrowser } from "@segment/analytics-next";
import { afterAll, beforeAll, expect, it } from "vitest";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";
import { openVendorPage } from "./support/vendor-pages.ts";

const chromium = chromiumForTests();
const { resolve } = createRequire(import.meta.url);

let suite: BrowserSuite;
beforeAll(async () => {
  if (chromium.available) suite = await startBrowserSuite(chromium);
});
afterAll(() => suite?.[Symbol.asyncDispose]());

/** For one test: a visitor of its own. */
async function openPage(file: string) {
  const context = await suite.newVisitor();
  return { ...(await openVendorPage(suite, context, file)), close: () => context.close() };
}

interface Row {
  event: string;
  distinct_id: string;
  person_id: string;
  host: string;
  properties: string;
}

/** Of the visitor, by name, once there are so many. */
async function rowsOf(user: string, anonymous: string, count: number) {
  const where = `FROM millrace.events WHERE distinct_id IN ('${user}', '${anonymous}')`;
  await suite.untilCount(`SELECT count() ${where}`, count);
  // What is said about a group is said by nobody in particular.
  await suite.untilCount(`SELECT uniqExact(person_id) ${where} AND event != '$groupidentify'`, 1);
  const found = await suite.rows<Row>(`SELECT event, distinct_id, person_id, host, properties ${where} ORDER BY event`);
  return found.map((row) => ({ ...row, properties: JSON.parse(row.properties) as Record<string, unknown> }));
}

async function expectPerson(user: string): Promise<void> {
  const person = `SELECT properties FROM millrace.persons FINAL WHERE distinct_id = '${user}'`;
  await expect.poll(() => suite.rows(person)).toEqual([{ properties: '{"plan":"pro"}' }]);
}

it.skipIf(!chromium.available)("@segment/analytics-next, whose host is named once", async () => {
  const file = join(dirname(resolve("@segment/analytics-next/package.json")), "dist/umd/index.js");
  const { page, errors, answers, close } = await openPage(file);
  await page.addScriptTag({ url: "/library.js" });
  const anonymous = await page.evaluate(async (cdnURL) => {
    const library = (window as unknown as { AnalyticsNext: { AnalyticsBrowser: typeof AnalyticsBrowser } })
      .AnalyticsNext;
    const analytics = library.AnalyticsBrowser.load({ writeKey: "KEY", cdnURL });
    await analytics.page("Docs", "Home");
    await analytics.track("bought", { price: 3 });
    await analytics.identify("next-user", { plan: "pro" });
    await analytics.group("acme", { size: 3 });
    return (await analytics.user()).anonymousId() ?? "";
  }, suite.standalone.url);
  const rows = await rowsOf("next-user", anonymous, 4);
  expect(rows.map(({ event, distinct_id }) => [event, distinct_id])).toEqual([
    ["$groupidentify", "next-user"],
    ["$identify", "next-user"],
    ["$pageview", anonymous],
    ["bought", anonymous],
  ]);
  const [group, , pageview, bought] = rows;
  expect(group?.properties).toMatchObject({ $group_key: "acme", $group_set: { size: 3 } });
  expect(pageview?.properties).toMatchObject({ name: "Home", category: "Docs", $title: "Page" });
  expect(bought?.properties).toMatchObject({ price: 3, $lib: "analytics.js", $pathname: "/" });
  expect(bought?.host).toBe(new URL(suite.pages.origin).host);
  await expectPerson("next-user");
  expect([errors, answers.filter((answer) => !/ (?:200|204)$/.test(answer))]).toEqual([[], []]);
  await close();
});

it.skipIf(!chromium.available)("@jitsu/js", async () => {
  const { page, errors, answers, close } = await openPage(resolve("@jitsu/js").replace(".cjs.", ".es."));
  await page.addScriptTag({
    type: "module",
    content: 'import { jitsuAnalytics } from "/library.js"; window.jitsuAnalytics = jitsuAnalytics;',
  });
  await page.waitForFunction(() => "jitsuAnalytics" in window);
  const anonymous = await page.evaluate(async (host) => {
    const create = (window as unknown as { jitsuAnalytics: typeof jitsuAnalytics }).jitsuAnalytics;
    const jitsu = create({ host, writeKey: "web:KEY" });
    await jitsu.page();
    await jitsu.track("bought", { price: 3 });
    const anonymous = jitsu.user()?.anonymousId ?? "";
    await jitsu.identify("jitsu-user", { plan: "pro" });
    await jitsu.group("acme", { size: 3 });
    return anonymous;
  }, suite.standalone.url);
  const rows = await rowsOf("jitsu-user", anonymous, 4);
  expect(rows.map(({ event }) => event)).toEqual(["$groupidentify", "$identify", "$pageview", "bought"]);
  expect(rows[3]?.properties).toMatchObject({ price: 3, $lib: "@jitsu/js" });
  expect(rows[3]?.host).toBe(new URL(suite.pages.origin).host);
  await expectPerson("jitsu-user");
  expect([errors, answers.filter((answer) => !/ (?:200|204)$/.test(answer))]).toEqual([[], []]);
  await close();
});
