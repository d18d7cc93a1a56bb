// Pages with React components on them, which a test changes from outside: what react-page.jsx offers.
import type { Page } from "playwright-core";
import type { InitOptions, Millrace } from "../../../sdk/browser/src/index.ts";
import type { BrowserSuite } from "./suite.ts";

export interface Shown {
  key?: string;
  apiKey?: string;
  options?: Partial<InitOptions>;
  isStrict?: boolean;
  spacePx?: number;
  offer?: { name?: string; trackingKey?: string; eventName?: string; properties?: Record<string, unknown> };
  items?: string[];
}

declare global {
  interface Window {
    show(setup: Shown): void;
    hide(): void;
    mounted: number;
    analytics: Millrace | undefined;
    before: Millrace | undefined;
  }
}

/** A new visitor's page of the origin that the gateway lets in, with this script and what a server rendered. */
export async function openReactPage(suite: BrowserSuite, code: string, html = ""): Promise<Page> {
  const context = await suite.newVisitor();
  const page = await suite.visit(await context.newPage(), suite.pages.url({}, { path: "/react/" }));
  await page.evaluate((rendered) => {
    document.body.innerHTML = `<div id="root">${rendered}</div>`;
  }, html);
  await page.addScriptTag({ type: "module", content: code });
  return page;
}

export async function show(page: Page, setup: Shown): Promise<void> {
  await page.waitForFunction(() => typeof window.show === "function");
  await page.evaluate((given) => window.show(given), setup);
  await page.waitForFunction(() => window.analytics !== undefined);
}

/** Resolves when the browser has told all observers what can be seen of the element now. */
export const observed = (page: Page, selector: string) =>
  page.evaluate(async (given) => {
    const element = document.querySelector(given) as Element;
    await new Promise((resolve) => new IntersectionObserver(resolve).observe(element));
  }, selector);

export const captured = (page: Page) => page.evaluate(() => window.analytics?.counters().captured);
export const flush = (page: Page) => page.evaluate(() => window.analytics?.flush());
