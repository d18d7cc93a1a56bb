// posthog-js as it comes from npm, in a real browser, on a page of another origin: told the gateway's address and a key, and
// nothing else.
import type { PostHog } from "posthog-js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";
import { newPerson } from "./support/vendor-pages.ts";

const chromium = chromiumForTests();

let suite: BrowserSuite;
beforeAll(async () => {
  if (chromium.available) suite = await startBrowserSuite(chromium);
});
afterAll(() => suite?.[Symbol.asyncDispose]());

declare global {
  interface Window {
    posthog: PostHog;
  }
}

it.skipIf(!chromium.available)(
  "posthog-js lands what it captures, groups and the person, and what is left when its page is closed",
  async () => {
    const context = await newPerson(suite);
    const page = await context.newPage();
    const answers: string[] = [];
    const errors: string[] = [];
    const gateway = suite.standalone.url;
    page.on("response", (answer) => {
      if (answer.url().startsWith(gateway)) answers.push(`${new URL(answer.url()).pathname} ${answer.status()}`);
    });
    page.on("requestfailed", (request) => errors.push(`${request.url()} ${request.failure()?.errorText}`));
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (line) => {
      if (line.type() === "error") errors.push(line.text());
    });
    await page.goto(suite.pages.url({}));
    await page.evaluate(() => {
      document.body.innerHTML = '<button id="buy">Buy it</button>';
    });
    await page.addScriptTag({
      type: "module",
      content: 'import posthog from "/posthog.js"; window.posthog = posthog;',
    });
    await page.waitForFunction(() => "posthog" in window);
    const settled = page.waitForResponse((answer) => answer.url().includes("/array/KEY/config"));
    const anonymous = await page.evaluate((host) => {
      window.posthog.init("KEY", { api_host: host });
      return window.posthog.get_distinct_id();
    }, gateway);
    await settled;
    // Autocapture begins with the settings.
    await expect.poll(() => page.evaluate(() => window.posthog.autocapture?.isEnabled)).toBe(true);
    await page.click("#buy");
    const time = new Date(Date.now() - 60_000).toISOString();
    await page.evaluate(
      ([id, timestamp]) => {
        const { posthog } = window;
        posthog.group("company", "acme", { size: 3 });
        posthog.capture("bought", { price: 3 }, { timestamp: new Date(timestamp) });
        posthog.identify(`${id}-known`, { email: "p@example.com" }, { from: "ad" });
        posthog.getFeatureFlag("beta");
      },
      [anonymous, time] as const,
    );
    const where = `WHERE distinct_id IN ('${anonymous}', '${anonymous}-known')`;
    const names = `SELECT event FROM millrace.events ${where} AND event != '$feature_flag_called' ORDER BY event`;
    const expected = ["$autocapture", "$groupidentify", "$identify", "$pageview", "bought"];
    const eventsNow = async () => (await suite.rows<{ event: string }>(names)).map(({ event }) => event);
    await expect.poll(eventsNow, { timeout: 20_000 }).toEqual(expected);
    // Captured and closed at once: what is in the queue leaves as a beacon.
    await page.evaluate(() => void window.posthog.capture("last words", { said: "é" }));
    await page.close({ runBeforeUnload: true });
    await expect
      .poll(eventsNow, { timeout: 20_000 })
      .toEqual([...expected.slice(0, 3), "$pageleave", "$pageview", "bought", "last words"]);

    expect(errors).toEqual([]);
    expect(new Set(answers.map((answer) => answer.split(" ")[1]))).toEqual(new Set(["200"]));
    // Identified: what the visitor did before and after is one person's; what a group is like is nobody's.
    await suite.untilCount(
      `SELECT uniqExact(person_id) FROM millrace.events ${where} AND event != '$groupidentify'`,
      1,
    );
    const persons = `SELECT properties FROM millrace.persons WHERE distinct_id = '${anonymous}-known'`;
    await expect
      .poll(async () => JSON.parse((await suite.rows<{ properties: string }>(persons))[0]?.properties ?? "{}"))
      .toMatchObject({ email: "p@example.com", from: "ad" });
    expect(await suite.rows("SELECT type, key, properties FROM millrace.groups")).toEqual([
      { type: "company", key: "acme", properties: '{"size":3}' },
    ]);
    const [bought] = await suite.rows<{ original_timestamp: string; properties: string }>(
      `SELECT original_timestamp, properties FROM millrace.events ${where} AND event = 'bought'`,
    );
    expect(bought?.original_timestamp).toBe(time);
    expect(JSON.parse(bought?.properties ?? "")).toMatchObject({ price: 3, $lib: "web", $groups: { company: "acme" } });
    const flagErrors = `SELECT DISTINCT JSONExtractString(properties, '$feature_flag_error') AS error FROM millrace.events ${where} AND event = '$feature_flag_called'`;
    expect(
      (await suite.rows<{ error: string }>(flagErrors)).filter(({ error }) => !["", "flag_missing"].includes(error)),
    ).toEqual([]);
    await context.close();
  },
);
