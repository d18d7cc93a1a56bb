// `npm run screenshots [-- FOLDER]`: pictures of the console over a standalone with made-up events, into docs/images/. With
// --all every view in both themes at three widths, for a look at what a change has done.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, chromium } from "playwright-core";
import { seedConsole } from "../test/kit/console-scene.ts";
import { startStandalone, temporaryDirectory } from "../test/kit/standalone.ts";

const VIEWS = ["overview", "live", "events", "people", "where", "dead-letters", "hosts", "start"] as const;
const DOCS = fileURLToPath(new URL("../docs/images/", import.meta.url));
/** What docs show: view, theme. */
const SHOWN = [
  ["overview", "light"],
  ["events", "light"],
  ["live", "dark"],
] as const;

interface Picture {
  view: string;
  theme: "light" | "dark";
  width: number;
  file: string;
}

async function take(browser: Browser, url: string, { view, theme, width, file }: Picture): Promise<void> {
  const context = await browser.newContext({
    colorScheme: theme,
    viewport: { width, height: width < 500 ? 800 : view === "live" ? 560 : 760 },
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && process.stderr.write(`${view}: ${message.text()}\n`));
  page.on("pageerror", (error) => process.stderr.write(`${view}: ${error.message}\n`));
  await page.goto(`${url}/#/${view}`);
  await page.locator("main .card").first().waitFor();
  await page.locator("main .state[role=status]").first().waitFor({ state: "hidden" });
  if (view === "live") await page.locator(".row").first().waitFor();
  if (["events", "hosts"].some((name) => view.startsWith(name))) await page.locator("canvas").waitFor();
  await page.screenshot({ path: file, fullPage: process.argv.includes("--all") });
  await context.close();
}

const isAll = process.argv.includes("--all");
const folder = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? DOCS;
mkdirSync(folder, { recursive: true });
await using directory = await temporaryDirectory();
await using standalone = await startStandalone({ dataDir: directory.path });
const parameters = await seedConsole(standalone, { hasLetters: isAll });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const all = VIEWS.flatMap((view) =>
  (["light", "dark"] as const).flatMap((theme) =>
    [1920, 1280, 360].map((width) => ({ view, theme, width, file: `${view}-${theme}-${width}.png` })),
  ),
);
const shown = SHOWN.map(([view, theme]) => ({ view, theme, width: 1280, file: `console-${view}.png` }));
for (const picture of isAll ? all : shown) {
  const query = parameters[picture.view] ?? "";
  await take(browser, standalone.statsUrl, {
    ...picture,
    view: picture.view + query,
    file: join(folder, picture.file),
  });
}
await browser.close();
