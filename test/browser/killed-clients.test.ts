// posthog-js, @segment/analytics-next and @jitsu/js as npm has them while the gateway is killed with -9 and comes back, and while
// their page is closed: told the gateway's address and a key, and nothing else.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type LostAnswers, startLostAnswers } from "../kit/lost-answers.ts";
import { patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";
import { newPerson, openVendorPage } from "./support/vendor-pages.ts";

const chromium = chromiumForTests();
const { resolve } = createRequire(import.meta.url);

interface Library {
  name: string;
  file: string;
  /** A module that makes `track` of the library at /library.js, told a host. */
  module(host: string): string;
  /** Where its events go. */
  path: RegExp;
}

const ANALYTICS_NEXT: Library = {
  name: "@segment/analytics-next",
  file: join(dirname(resolve("@segment/analytics-next/package.json")), "dist/umd/index.js"),
  module: (host) => `
    await new Promise((resolve) => {
      const script = Object.assign(document.createElement("script"), { src: "/library.js", onload: resolve });
      document.head.append(script);
    });
    const analytics = AnalyticsNext.AnalyticsBrowser.load({ writeKey: "KEY", cdnURL: "${host}" });
    const track = (event, properties) => analytics.track(event, properties);`,
  path: /^\/v1\/t$/,
};
const JITSU: Library = {
  name: "@jitsu/js",
  file: resolve("@jitsu/js").replace(".cjs.", ".es."),
  module: (host) => `
    import { jitsuAnalytics } from "/library.js";
    const jitsu = jitsuAnalytics({ host: "${host}", writeKey: "web:KEY" });
    const track = (event, properties) => jitsu.track(event, properties);`,
  path: /^\/api\/s\/track$/,
};
const POSTHOG: Library = {
  name: "posthog-js",
  file: join(dirname(resolve("posthog-js/package.json")), "dist/module.js"),
  module: (host) => `
    import posthog from "/library.js";
    posthog.init("KEY", { api_host: "${host}" });
    const track = (event, properties) => posthog.capture(event, properties);`,
  path: /^\/(?:i\/v0\/)?e\/$/,
};

let suite: BrowserSuite;
let link: LostAnswers;
beforeAll(async () => {
  if (!chromium.available) return;
  suite = await startBrowserSuite(chromium);
  link = await startLostAnswers(() => Number(new URL(suite.standalone.url).port));
});
afterAll(async () => {
  await link?.[Symbol.asyncDispose]();
  await suite?.[Symbol.asyncDispose]();
});

/** A page with the library, and the requests with events that it made. A browser has six connections to a host for a visitor. */
async function open({ name, file, module, path }: Library, visitor?: BrowserContext) {
  const context = visitor ?? (await newPerson(suite));
  const opened = await openVendorPage(suite, context, file, link.url);
  const { page } = opened;
  const requests: string[] = [];
  const underWay = new Set<object>();
  page.on("request", (request) => {
    const { origin, pathname } = new URL(request.url());
    if (origin !== link.url || !path.test(pathname)) return;
    requests.push(request.postData() ?? "");
    underWay.add(request);
  });
  for (const event of ["requestfinished", "requestfailed"] as const) {
    page.on(event, (request) => underWay.delete(request));
  }
  const content = `${module(link.url)}\nwindow.track = (n) => void track("killed", { client: "${name}", n });`;
  await page.addScriptTag({ type: "module", content });
  await page.waitForFunction(() => "track" in window);
  return { ...opened, context, requests, underWay };
}

function track(page: Page, ...numbers: number[]): Promise<void> {
  return page.evaluate((all) => {
    const { track } = window as unknown as { track(n: number): void };
    for (const n of all) track(n);
  }, numbers);
}

/** In their order, of one library's events. */
async function stored({ name }: Library): Promise<number[]> {
  const rows = await suite.rows<{ n: number }>(
    `SELECT toInt32(JSONExtractInt(properties, 'n')) AS n FROM millrace.events
     WHERE event = 'killed' AND JSONExtractString(properties, 'client') = '${name}' ORDER BY n`,
  );
  return rows.map(({ n }) => n);
}

it.skipIf(!chromium.available)(
  "the gateway killed: what a page was told is safe and what it sends again is there once, and then it is silent",
  { timeout: patience(60_000) },
  async () => {
    const libraries = [POSTHOG, ANALYTICS_NEXT, JITSU] as const;
    const opened = await Promise.all(libraries.map((library) => open(library)));
    const [posthog, next, jitsu] = opened as [(typeof opened)[0], (typeof opened)[0], (typeof opened)[0]];
    for (const { page } of opened) await track(page, 0, 1, 2);
    const told = async (at: number) =>
      (await stored(libraries[at] as Library)).length === 3 && opened[at]?.underWay.size === 0;
    await until(async () => (await Promise.all([0, 1, 2].map(told))).every(Boolean), "the first are stored and told");
    link.hold();
    for (const { page } of opened) await track(page, 3, 4, 5);
    // Of @jitsu/js all of them: it sends each event once, whatever becomes of it.
    await until(async () => {
      const [ofPosthog, ofNext, ofJitsu] = await Promise.all(libraries.map(stored));
      return Number(ofPosthog?.length) > 3 && Number(ofNext?.length) > 3 && ofJitsu?.length === 6;
    }, "each has events stored that it was not told about");
    link.away();
    await suite.standalone.process.stop("SIGKILL");
    const failures = jitsu.requests.length;
    await track(jitsu.page, 6);
    await until(() => jitsu.requests.length > failures && link.waiting > 0, "a request that reaches nobody");
    await suite.restart();
    link.back();
    for (const library of libraries) await expect.poll(() => stored(library)).toEqual([0, 1, 2, 3, 4, 5]);
    await until(() => opened.every(({ underWay }) => underWay.size === 0), "all have an answer, or know of none");
    // Nothing of it is sent once more: the next event leaves alone.
    const before = opened.map(({ requests }) => requests.length);
    for (const { page } of opened) await track(page, 7);
    for (const library of libraries) await expect.poll(() => stored(library)).toEqual([0, 1, 2, 3, 4, 5, 7]);
    expect(opened.map(({ requests }, at) => requests.length - (before[at] ?? 0))).toEqual([1, 1, 1]);
    expect([posthog.errors, next.errors, jitsu.errors]).toEqual([[], [], []]);
    await Promise.all(opened.map(({ context }) => context.close()));
  },
);

it.skipIf(!chromium.available)("@segment/analytics-next whose page is closed in the middle", async () => {
  const first = await open(ANALYTICS_NEXT);
  const numbers = async () => (await stored(ANALYTICS_NEXT)).filter((n) => n >= 10);
  await track(first.page, 10);
  await until(() => first.answers.includes("/v1/t 200"), "the first is told");
  link.hold();
  await track(first.page, 11);
  await expect.poll(numbers).toEqual([10, 11]);
  // One that has no answer, and one that is captured and closed upon at once.
  await track(first.page, 12);
  await first.page.close({ runBeforeUnload: true });
  await until(() => first.page.isClosed(), "closed");
  link.back();
  // The visitor's next page sends again what the first was not told about.
  const second = await open(ANALYTICS_NEXT, first.context);
  await until(() => second.requests.some((body) => body.includes('"n":11')), "sent again");
  await until(() => second.underWay.size === 0, "told");
  await track(second.page, 13);
  await expect.poll(numbers).toEqual([10, 11, 12, 13]);
  expect([first.errors, second.errors]).toEqual([[], []]);
  await first.context.close();
});
