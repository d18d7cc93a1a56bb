// Pages of another origin that use another vendor's library as npm has it.
import type { BrowserContext } from "playwright-core";
import type { BrowserSuite } from "./suite.ts";

/** A visitor whom posthog-js does not take for a robot. */
export async function newPerson({ browser }: BrowserSuite): Promise<BrowserContext> {
  const probe = await browser.newContext();
  const userAgent = await (await probe.newPage()).evaluate(() => navigator.userAgent);
  await probe.close();
  const context = await browser.newContext({ userAgent: userAgent.replace("HeadlessChrome", "Chrome") });
  await context.addInitScript(() => Object.defineProperty(navigator, "webdriver", { get: () => false }));
  return context;
}

/** A page whose `/library.js` is the file, what it throws, and how the gateway answered it: "/path 200". */
export async function openVendorPage(
  { pages, standalone }: BrowserSuite,
  context: BrowserContext,
  file: string,
  gateway = standalone.url,
) {
  const page = await context.newPage();
  const errors: string[] = [];
  const answers: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("response", (answer) => {
    const { pathname, origin } = new URL(answer.url());
    if (origin === new URL(gateway).origin) answers.push(`${pathname} ${answer.status()}`);
  });
  await page.route("**/library.js", (route) => route.fulfill({ path: file, contentType: "text/javascript" }));
  await page.goto(pages.url({}));
  return { page, errors, answers };
}
