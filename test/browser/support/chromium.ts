// The browser that tests drive: Chromium as the system has it.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, type BrowserContext, chromium } from "playwright-core";

export type ChromiumForTests =
  | {
      available: true;
      /** `keepsPages`: with the back/forward cache, which is off under test otherwise. */
      launch(options?: { keepsPages?: boolean }): Promise<Browser>;
      /** With a profile of its own, whose Preferences can be written before. */
      launchWithProfile(directory: string): Promise<BrowserContext>;
    }
  | { available: false; reason: string };

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/** `page.test` is a page of plain http that is not localhost: no secure context. */
const ARGS = ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP page.test 127.0.0.1"];

/** CHROMIUM names the program, else the first one found in PATH. */
export function chromiumForTests(env: NodeJS.ProcessEnv = process.env): ChromiumForTests {
  const executablePath = env.CHROMIUM || findProgram(env.PATH ?? "");
  if (executablePath) {
    const options = { executablePath, args: ARGS };
    return {
      available: true,
      launch: ({ keepsPages = false } = {}) =>
        chromium.launch(keepsPages ? { ...options, ignoreDefaultArgs: ["--disable-back-forward-cache"] } : options),
      launchWithProfile: (directory) => chromium.launchPersistentContext(directory, options),
    };
  }
  const reason = "no Chromium for tests: install it (apt-get install chromium) or set CHROMIUM=/path/to/chromium";
  process.stderr.write(`\n*** BROWSER TESTS CANNOT RUN: ${reason} ***\n\n`);
  return { available: false, reason };
}

function findProgram(path: string): string | undefined {
  const candidates = path.split(delimiter).flatMap((directory) => NAMES.map((name) => join(directory, name)));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      // Not in this directory.
      return false;
    }
  });
}
