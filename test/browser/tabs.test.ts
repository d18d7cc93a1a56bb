// Tabs of one visitor: one person, one session, and no event twice.
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";

const chromium = chromiumForTests();
const QUIET = { capturePageview: false } as const;

let suite: BrowserSuite;
beforeAll(async () => {
  if (chromium.available) suite = await startBrowserSuite(chromium);
});
afterAll(() => suite?.[Symbol.asyncDispose]());

describe.skipIf(!chromium.available)("several tabs", () => {
  it("that open at once are one person in one session, and no event is doubled", async () => {
    const context = await suite.newVisitor();
    const removed = Number(await suite.standalone.query("SELECT count() FROM millrace.log_outcomes"));
    const tabs = await Promise.all(Array.from({ length: 5 }, () => context.newPage()));
    await Promise.all(tabs.map((tab) => suite.visit(tab, suite.url({ options: { flushIntervalMs: 250 } }))));
    await Promise.all(
      tabs.map((tab, i) =>
        tab.evaluate(async (at) => {
          for (let n = 0; n < 20; n++) window.millrace.capture("tab", { at, n });
          await window.millrace.flush();
        }, i),
      ),
    );
    const [first] = tabs as [Page];
    const rows = await suite.landed(first, 105);
    expect(new Set(rows.map((row) => row.distinct_id)).size).toBe(1);
    expect(new Set(rows.map((row) => row.person_id)).size).toBe(1);
    expect(new Set(rows.map((row) => row.session_id)).size).toBe(1);
    expect(new Set(rows.map((row) => row.window_id)).size).toBe(5);
    expect(rows.filter(({ event }) => event === "$pageview")).toHaveLength(5);
    expect(new Set(rows.map(({ all }) => `${all.at} ${all.n}`)).size).toBe(101);
    // One tab sends at a time: the server had no duplicate to remove.
    await suite.untilCount("SELECT count() FROM millrace.log_outcomes", removed);
    await context.close();
  });

  it("do not overwrite each other's properties or identity", async () => {
    const context = await suite.newVisitor();
    const tabs = await Promise.all(Array.from({ length: 4 }, () => context.newPage()));
    await Promise.all(tabs.map((tab) => suite.visit(tab, suite.url({ options: QUIET }))));
    await Promise.all(tabs.map((tab, i) => tab.evaluate((at) => window.millrace.register({ [`own${at}`]: at }), i)));
    const [first, , , last] = tabs as [Page, Page, Page, Page];
    await first.evaluate(() => window.millrace.identify("grace"));
    const all = { own0: 0, own1: 1, own2: 2, own3: 3 };
    await last.waitForFunction(
      (keys) => keys.every((key) => window.millrace.get_property(key) !== undefined),
      Object.keys(all),
    );
    await last.waitForFunction(() => window.millrace.get_distinct_id() === "grace");
    await last.evaluate(() => window.millrace.capture("from the last"));
    await last.evaluate(() => window.millrace.flush());
    const rows = await suite.landed(last, 2);
    expect(rows.at(-1)).toMatchObject({ event: "from the last", distinct_id: "grace", all });
    await context.close();
  });
});
