// @millrace/react as its users get it: packed, installed into an empty folder, bundled, and in real Chromium.
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gzipSizes } from "../../scripts/build-browser.ts";
import type { InitOptions } from "../../sdk/browser/src/index.ts";
import { installSdk, typeCheck } from "../kit/sdk-packages.ts";
import { chromiumForTests } from "./support/chromium.ts";
import { bundle, copyReactApp, runOnServer } from "./support/react-bundles.ts";
import { captured, flush, observed, openReactPage, type Shown, show } from "./support/react-pages.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";

const README = new URL("../../sdk/react/README.md", import.meta.url);
const GZIP_BYTES_MAX = 3_500;
const TARBALL_BYTES_MAX = 12_000;
const QUIET = { capturePageview: false } as const;

const chromium = chromiumForTests();
let folder: string;
let tarballs: Record<string, string>;
/** Not there without Chromium. */
let suite: BrowserSuite;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-react-"));
  const others = ["react", "react-dom", "@types/react", "@types/react-dom", "@types/node"];
  [tarballs, suite] = await Promise.all([
    installSdk(folder, ["browser", "react"], others),
    chromium.available ? startBrowserSuite(chromium) : (undefined as never),
  ]);
  await copyReactApp(folder);
});
afterAll(async () => {
  await suite?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

interface Example {
  code: string;
  output: string | undefined;
}

async function examples(): Promise<Example[]> {
  const text = await readFile(README, "utf8");
  const blocks = text.matchAll(/```tsx\n(?<code>.*?)```(?:\n+```text\n(?<output>.*?)```)?/gs);
  return Array.from(blocks, ({ groups }) => ({ code: groups?.code ?? "", output: groups?.output }));
}

describe("the package", () => {
  it("has scripts, types, README and license, and no sources, within its size", async () => {
    const installed = join(folder, "node_modules/@millrace/react");
    const files = (await readdir(installed, { recursive: true })).sort();
    const modules = ["capture-on-viewed", "context", "index", "provider"];
    const built = modules.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`]);
    expect(files).toEqual(["LICENSE", "README.md", "dist", ...built, "package.json"]);
    const sizes = await gzipSizes(join(installed, "dist"));
    const { size } = await stat(tarballs.react ?? "");
    process.stdout.write(`@millrace/react, bytes gzip: ${JSON.stringify(sizes)}, tarball ${size}\n`);
    expect(Object.values(sizes).reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(GZIP_BYTES_MAX);
    expect(size).toBeLessThanOrEqual(TARBALL_BYTES_MAX);
  });

  it.each(["bundler", "nodenext"])(
    "type-checks strictly with moduleResolution %s, its README included",
    async (how) => {
      const project = join(folder, how);
      await mkdir(project);
      for (const [index, { code }] of (await examples()).entries()) {
        await writeFile(join(project, `example${index}.tsx`), code);
      }
      const wrong = `import { AnalyticsCaptureOnViewed, AnalyticsProvider, useAnalytics } from "@millrace/react";
import type { Millrace } from "@millrace/browser";
export const client: Millrace | undefined = useAnalytics();
// @ts-expect-error there may be no client
useAnalytics().capture("event");
// @ts-expect-error apiHost is required
export const a = <AnalyticsProvider options={{ autocapture: true }} />;
// @ts-expect-error a client or options, not both
export const b = <AnalyticsProvider client={client} options={{ apiHost: "" }} />;
// @ts-expect-error a name is required
export const c = <AnalyticsCaptureOnViewed className="wide" />;
export const d = <AnalyticsProvider apiKey={undefined as string | undefined} options={{ apiHost: "" }} />;
`;
      await writeFile(join(project, "wrong.tsx"), wrong);
      await typeCheck(project, how, { lib: ["es2022", "dom", "dom.iterable"], jsx: "react-jsx", types: [] });
    },
  );

  it("leaves out of a bundle what is not used", async () => {
    await writeFile(join(folder, "hook.js"), 'export { useAnalytics } from "@millrace/react";\n');
    const code = await bundle(folder, "hook.js", [/^react/]);
    expect(code).toContain("useContext");
    expect(code).not.toMatch(/IntersectionObserver|AnalyticsProvider:|apiHost/);
  });

  it("the README's page renders on a server, where there is no window, as the README says", async () => {
    const { code = "", output = "" } = (await examples()).find((example) => example.output !== undefined) ?? {};
    await writeFile(join(folder, "readme-server.tsx"), code);
    expect((await runOnServer(folder, "readme-server.tsx")).trim()).toBe(output.trim());
  });
});

describe.skipIf(!chromium.available)("in a browser", () => {
  let script: string;
  beforeAll(async () => {
    script = await bundle(folder, "app/react-page.jsx");
  });

  const optionsWith = (options: Partial<InitOptions> = {}): Partial<InitOptions> => ({
    apiHost: suite.standalone.url,
    apiKey: "KEY",
    ...options,
  });

  it("lands pageviews, identify and what was seen, each once, under StrictMode too", async () => {
    const page = await openReactPage(suite, script);
    const options = optionsWith({ capturePageview: "history_change" });
    await show(page, { isStrict: true, options, spacePx: 2000, items: ["first", "second"] });
    // StrictMode is at work: it mounts everything twice.
    expect(await page.evaluate(() => window.mounted)).toBe(2);
    await page.click("#who");
    await page.click("#two");
    await page.evaluate(() =>
      scrollTo(0, (document.querySelector("#offer") as HTMLElement).offsetTop - innerHeight + 20),
    );
    await observed(page, "#offer");
    // A fifth of it is in the window, and a half was asked for.
    expect(await captured(page)).toBe(3);
    for (const place of ["#offer", "#who", "#offer", "#list", "#offer", "#list"]) {
      await page.locator(place).scrollIntoViewIfNeeded();
      await observed(page, place);
    }
    await flush(page);
    const rows = await suite.landed(page, 6);
    expect(rows.map(({ event, all }) => [event, all.$pathname ?? all.element_name ?? all.$user_id])).toEqual([
      ["$pageview", "/react/"],
      ["$identify", "ada"],
      ["$pageview", "/react/two"],
      ["$element_viewed", "offer"],
      ["$element_viewed", "item"],
      ["$element_viewed", "item"],
    ]);
    expect(rows[3]).toMatchObject({ distinct_id: "ada", all: { plan: "pro" } });
    expect(
      rows
        .slice(4)
        .map(({ all }) => all.child_index)
        .sort(),
    ).toEqual([0, 1]);
    const device = rows[0]?.distinct_id;
    // The person before identify and after it.
    const persons = `SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('${device}', 'ada')`;
    await suite.untilCount(persons, 1);
    expect(new Set(rows.map((row) => row.session_id)).size).toBe(1);
    await page.context().close();
  });

  it("reads options once and says so, starts anew under another key, and sends what it has when it is gone", async () => {
    const page = await openReactPage(suite, script);
    const warnings: string[] = [];
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    const options = optionsWith({ capturePageleave: false, flushIntervalMs: 5000 });
    await show(page, { key: "a", options });
    await show(page, { key: "a", options: { ...options } });
    expect(warnings).toEqual([]);
    for (const apiKey of ["WRONG", "WRONG TOO"])
      await show(page, { key: "a", apiKey, options: { ...options, ...QUIET } });
    await page.evaluate(() => {
      window.before = window.analytics;
      window.before?.capture("as before");
    });
    // A second pageview, with another client.
    await show(page, { key: "b", options });
    await page.waitForFunction(() => window.analytics !== window.before);
    await expect.poll(() => captured(page)).toBe(2);
    await page.evaluate(() => {
      window.before = window.analytics;
      window.before?.capture("the last");
      window.hide();
    });
    await page.waitForFunction(() => {
      try {
        return !window.before?.get_distinct_id();
      } catch (error) {
        return (error as Error).message === "call init first";
      }
    });
    const rows = await suite.landed(page, 6);
    expect(rows.map(({ event }) => event).sort()).toEqual([
      "$element_viewed",
      "$element_viewed",
      "$pageview",
      "$pageview",
      "as before",
      "the last",
    ]);
    expect(new Set(rows.map((row) => row.session_id)).size).toBe(1);
    expect(warnings.sort()).toEqual([
      expect.stringContaining("apiKey changed and is read once"),
      expect.stringContaining("options changed and is read once"),
    ]);
    await page.context().close();
  });

  it("captures an element again for another tracking key, and a child when it is added", async () => {
    const page = await openReactPage(suite, script);
    const shown = { options: optionsWith(QUIET), isStrict: true };
    const seen = { eventName: "seen", properties: { element_name: "mine" } };
    const steps: [Shown, number][] = [
      [{ offer: { trackingKey: "one" }, items: ["first"] }, 2],
      [{ offer: { trackingKey: "two", ...seen }, items: ["first", "second"] }, 4],
      [{ offer: { trackingKey: "one", ...seen }, items: ["second", "first"] }, 4],
      [{ offer: { trackingKey: "two", ...seen, name: "other" }, items: [] }, 4],
      // An item that left and came back is another one.
      [{ offer: { trackingKey: "two" }, items: ["first"] }, 5],
    ];
    for (const [step, count] of steps) {
      await show(page, { ...shown, ...step });
      await observed(page, "#offer");
      await expect.poll(() => captured(page)).toBe(count);
    }
    await flush(page);
    const rows = await suite.landed(page, 5);
    const summary = rows.map(({ event, all }) => `${event} ${all.element_name} ${all.child_index ?? ""}`.trim()).sort();
    expect(summary).toEqual([
      "$element_viewed item 0",
      "$element_viewed item 0",
      "$element_viewed item 1",
      "$element_viewed offer",
      "seen mine",
    ]);
    await page.context().close();
  });

  it("captures on mount where there is no IntersectionObserver", async () => {
    const page = await openReactPage(suite, script);
    await page.evaluate(() => Reflect.deleteProperty(window, "IntersectionObserver"));
    await show(page, { isStrict: true, options: optionsWith(QUIET), spacePx: 5000, items: ["first"] });
    await expect.poll(() => captured(page)).toBe(2);
    await flush(page);
    expect((await suite.landed(page, 2)).map(({ all }) => all.element_name).sort()).toEqual(["item", "offer"]);
    await page.context().close();
  });

  it("takes over what a server rendered, without a complaint", async () => {
    const setup = { options: optionsWith(), items: ["first"] };
    const html = await runOnServer(folder, "app/react-server.jsx", [JSON.stringify(setup)]);
    expect(html).toMatch(/^<button id="who".*<div id="offer" style="height:100px">an offer<\/div>.*<p>first<\/p>/s);
    const page = await openReactPage(suite, script, html);
    const complaints: string[] = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    const rendered = await page.evaluateHandle(() => document.querySelector("#who"));
    await show(page, { ...setup, isStrict: true });
    await expect.poll(() => captured(page)).toBe(3);
    expect(await rendered.evaluate((element) => element === document.querySelector("#who"))).toBe(true);
    expect(complaints).toEqual([]);
    await flush(page);
    expect(await suite.landed(page, 3)).toHaveLength(3);
    await page.context().close();
  });

  it("shows the app without a client when the options are refused, and says why", async () => {
    const page = await openReactPage(suite, script);
    await page.waitForFunction(() => typeof window.show === "function");
    const complaint = page.waitForEvent("console", { predicate: (message) => message.type() === "error" });
    await page.evaluate(() => window.show({ options: { apiHost: " " }, items: ["first"] }));
    expect((await complaint).text()).toContain("AnalyticsProvider: nothing is captured Error: apiHost is required");
    expect(await page.locator("#list").textContent()).toBe("first");
    await page.context().close();
  });

  it.each([
    [0, ["$element_viewed", "$pageview", "signup_started"]],
    [1, ["$identify", "$pageview"]],
  ])("example %i of the README lands its rows", async (index, events) => {
    const { code = "" } = (await examples())[index] ?? {};
    await writeFile(
      join(folder, `readme${index}.tsx`),
      code.replace(
        'apiHost: "https://events.example.com"',
        `apiKey: "KEY", flushIntervalMs: 250, apiHost: "${suite.standalone.url}"`,
      ),
    );
    const page = await openReactPage(suite, await bundle(folder, `readme${index}.tsx`));
    await page.click("#root button");
    expect((await suite.landed(page, events.length)).map(({ event }) => event).sort()).toEqual(events);
    await page.context().close();
  });
});
