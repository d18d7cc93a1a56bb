// The SDK, pages that use it and `millrace start`, for the tests that drive a browser.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { vi } from "vitest";
import { buildBrowser } from "../../../scripts/build-browser.ts";
import type { InitOptions, Millrace } from "../../../sdk/browser/src/index.ts";
import { type RunningStandalone, samePorts, startStandalone } from "../../kit/standalone.ts";
import type { ChromiumForTests } from "./chromium.ts";
import { serveWebPages, type WebPages } from "./web-pages.ts";

declare global {
  interface Window {
    millrace: Millrace;
    violations: string[];
  }
}

const POSTHOG = fileURLToPath(new URL("../../../node_modules/posthog-js/dist/module.js", import.meta.url));
const LANDED_MS_MAX = 20_000;

export interface Setup {
  options?: Partial<InitOptions>;
  register?: Record<string, unknown>;
  optOut?: boolean;
}

interface Row {
  event: string;
  timestamp: string;
  distinct_id: string;
  person_id: string;
  session_id: string;
  window_id: string;
  properties: string;
}

export interface LandedEvent extends Row {
  /** The properties, parsed. */
  all: Record<string, unknown>;
}

/** The device id of the page's visitor. */
export const deviceOf = (page: Page): Promise<string | undefined> =>
  page.evaluate(() => JSON.parse(localStorage.getItem("millrace") ?? "{}").device_id);

export interface BrowserSuite extends AsyncDisposable {
  readonly browser: Browser;
  readonly pages: WebPages;
  readonly standalone: RunningStandalone;
  readonly directory: string;
  /** The address of a page; apiHost is the standalone unless given. */
  url(setup?: Setup, options?: Parameters<WebPages["url"]>[1]): string;
  /** Goes there and waits for the SDK. */
  visit(page: Page, url: string): Promise<Page>;
  /** A visitor nobody has seen before. */
  newVisitor(): Promise<BrowserContext>;
  rows<Row>(sql: string): Promise<Row[]>;
  /** The rows of one visitor's device, by default the page's, in the order of capture, once there are so many. */
  landed(page: Page, count: number, device?: string): Promise<LandedEvent[]>;
  /** Resolves when the query's one number is this. */
  untilCount(sql: string, count: number, timeoutMs?: number): Promise<void>;
  /** Starts the standalone again on its ports and data, after `standalone.process.stop`. */
  restart(): Promise<void>;
}

export async function startBrowserSuite(chromium: ChromiumForTests): Promise<BrowserSuite> {
  if (!chromium.available) throw new Error(chromium.reason);
  await using starting = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "millrace-browser-"));
  starting.defer(() => rm(directory, { recursive: true, force: true }));
  const sdk = join(directory, "sdk");
  await buildBrowser(sdk);
  const pages = starting.use(await serveWebPages(sdk, POSTHOG));
  const origins = [pages.origin, `http://page.test:${pages.port}`].join(",");
  const settings = { dataDir: join(directory, "data"), env: { ALLOWED_ORIGINS: origins, PUBLIC_API_KEYS: "KEY" } };
  const browser = await chromium.launch();
  starting.defer(() => browser.close());
  let standalone = await startStandalone(settings);
  starting.defer(() => standalone[Symbol.asyncDispose]());

  async function rows<Row>(sql: string): Promise<Row[]> {
    const text = await standalone.query(`${sql} FORMAT JSONEachRow`);
    return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Row);
  }

  async function untilCount(sql: string, count: number, timeoutMs = LANDED_MS_MAX): Promise<void> {
    const check = async () => {
      const found = await standalone.query(sql);
      if (found !== String(count)) throw new Error(`${found}, not ${count}: ${sql}`);
    };
    await vi.waitFor(check, { timeout: timeoutMs, interval: 100 });
  }

  async function landed(page: Page, count: number, device?: string): Promise<LandedEvent[]> {
    const id = device ?? (await deviceOf(page));
    const where = `FROM millrace.events WHERE JSONExtractString(properties, '$device_id') = '${id}'`;
    await untilCount(`SELECT count() ${where}`, count);
    const columns = "event, timestamp, distinct_id, person_id, session_id, window_id, properties";
    // Ids sort as they were made. Times do not across requests: each is corrected by how late its own request came.
    const found = await rows<Row>(`SELECT ${columns} ${where} ORDER BY toString(uuid)`);
    return found.map((row) => ({ ...row, all: JSON.parse(row.properties) as Record<string, unknown> }));
  }

  const started = starting.move();
  return {
    browser,
    landed,
    pages,
    directory,
    get standalone() {
      return standalone;
    },
    rows,
    url({ options = {}, ...setup } = {}, page = {}) {
      return pages.url({ ...setup, options: { apiHost: standalone.url, apiKey: "KEY", ...options } }, page);
    },
    async visit(page, url) {
      await page.goto(url);
      await page.locator("html[data-ready]").waitFor({ state: "attached" });
      return page;
    },
    newVisitor: () => browser.newContext(),
    untilCount,
    async restart() {
      standalone = await startStandalone({ ...settings, env: { ...settings.env, ...samePorts(standalone) } });
    },
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
}
