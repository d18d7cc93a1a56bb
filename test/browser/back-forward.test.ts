// That the SDK does not keep the browser from restoring a page from its back/forward cache, and counts what is restored.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { buildBrowser } from "../../scripts/build-browser.ts";
import { chromiumForTests } from "./support/chromium.ts";
import { serveScriptedBatch, serveWebPages } from "./support/web-pages.ts";

const chromium = chromiumForTests();

it.skipIf(!chromium.available)(
  "a page is restored when the visitor goes back, and views and leaves pair up",
  async () => {
    if (!chromium.available) return;
    await using stack = new AsyncDisposableStack();
    const sdk = await mkdtemp(join(tmpdir(), "millrace-back-"));
    stack.defer(() => rm(sdk, { recursive: true, force: true }));
    await buildBrowser(sdk);
    const pages = stack.use(await serveWebPages(sdk, ""));
    const batch = stack.use(await serveScriptedBatch());
    const browser = await chromium.launch({ keepsPages: true });
    stack.defer(() => browser.close());
    const page = await (await browser.newContext()).newPage();
    const ready = () => page.locator("html[data-ready]").waitFor({ state: "attached" });
    await page.goto(pages.url({ options: { apiHost: batch.url, apiKey: "KEY" } }, { path: "/first" }));
    await ready();
    // A page that runs anew does not have it.
    await page.evaluate(() => Object.assign(window, { isSame: true }));
    const restored: unknown[] = [];
    for (let visit = 0; visit < 3; visit++) {
      await page.evaluate(() => window.millrace.flush());
      await page.goto(pages.url({}, { path: "/second" }));
      await ready();
      await page.goBack({ waitUntil: "commit" });
      await ready();
      restored.push(await page.evaluate(() => (window as { isSame?: boolean }).isSame));
    }
    expect(restored).toEqual([true, true, true]);
    await page.evaluate(() => window.millrace.flush());
    const events = new Map(
      batch.received.flatMap((sent) => sent.batch.map((event) => [event.uuid, event.event] as const)),
    );
    const inOrder = [...events].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, event]) => event);
    expect(inOrder).toEqual([...Array.from({ length: 3 }, () => ["$pageview", "$pageleave"]).flat(), "$pageview"]);
  },
);
