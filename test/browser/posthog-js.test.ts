// posthog-js as it comes from npm, a reference client of POST /batch/ in a real browser. Its remote configuration, which
// its own servers would send, names the path.
import type { PostHog } from "posthog-js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";

const chromium = chromiumForTests();

let suite: BrowserSuite;
beforeAll(async () => {
  if (chromium.available) suite = await startBrowserSuite(chromium);
});
afterAll(() => suite?.[Symbol.asyncDispose]());

// Compressed it would send text/plain, which the contract of /batch/ answers with 415.
it.skipIf(!chromium.available)("posthog-js lands pageview, event and identified person", async () => {
  const context = await suite.newVisitor();
  const page = await context.newPage();
  const answers: string[] = [];
  page.on("response", (answer) => {
    if (answer.request().method() === "POST") answers.push(`${new URL(answer.url()).pathname} ${answer.status()}`);
  });
  await page.goto(suite.pages.url({}));
  await page.addScriptTag({
    type: "module",
    content: 'import posthog from "/posthog.js"; window.posthog = posthog;',
  });
  await page.waitForFunction(() => "posthog" in window);
  const anonymous = await page.evaluate((host) => {
    const config = { analytics: { endpoint: "/batch/" }, hasFeatureFlags: false };
    Object.assign(window, { _POSTHOG_REMOTE_CONFIG: { KEY: { config, siteApps: [] } } });
    const { posthog } = window as unknown as { posthog: PostHog };
    posthog.init("KEY", {
      api_host: host,
      disable_compression: true,
      advanced_disable_feature_flags: true,
      disable_session_recording: true,
      disable_surveys: true,
      autocapture: false,
      request_queue_config: { flush_interval_ms: 250 },
      opt_out_useragent_filter: true,
    });
    const anonymous = posthog.get_distinct_id();
    posthog.capture("bought", { price: 3 });
    posthog.identify(`${anonymous}-known`, { email: "p@example.com" });
    return anonymous;
  }, suite.standalone.url);
  const where = `WHERE distinct_id IN ('${anonymous}', '${anonymous}-known')`;
  const names = `SELECT arrayStringConcat(arraySort(groupArray(event)), ' ') AS names FROM millrace.events ${where}`;
  await expect.poll(() => suite.rows(names), { timeout: 20_000 }).toEqual([{ names: "$identify $pageview bought" }]);
  expect(new Set(answers)).toEqual(new Set(["/batch/ 200"]));
  // Identified: what the visitor did before and after is one person's.
  await suite.untilCount(`SELECT uniqExact(person_id) FROM millrace.events ${where}`, 1);
  const known = `SELECT count() FROM millrace.persons WHERE distinct_id = '${anonymous}-known'`;
  await suite.untilCount(known, 1);
  await context.close();
});
