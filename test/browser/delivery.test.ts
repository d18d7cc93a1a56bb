// That @millrace/browser loses nothing and doubles nothing: pages that close, servers that are away, storage that is not
// there. Every id must be a row exactly once.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patience } from "../kit/patience.ts";
import { chromiumForTests } from "./support/chromium.ts";
import { type BrowserSuite, startBrowserSuite } from "./support/suite.ts";
import { type ScriptedBatch, serveScriptedBatch } from "./support/web-pages.ts";

const chromium = chromiumForTests();
/** A minute shows more than five seconds; MILLRACE_OUTAGE_SECONDS=60 for that. */
const OUTAGE_MS = Number(process.env.MILLRACE_OUTAGE_SECONDS ?? 5) * 1000;
const QUIET = { capturePageview: false } as const;

let suite: BrowserSuite;
let scripted: ScriptedBatch;
beforeAll(async () => {
  if (!chromium.available) return;
  suite = await startBrowserSuite(chromium);
  scripted = await serveScriptedBatch();
});
afterAll(async () => {
  await scripted?.[Symbol.asyncDispose]();
  await suite?.[Symbol.asyncDispose]();
});

/** Captures this many of a name; resolves with their ids. */
const capture = (page: Page, name: string, count: number, size = 0) =>
  page.evaluate(
    ([event, most, chars]) => {
      const uuids: string[] = [];
      for (let n = 0; n < most; n++)
        uuids.push(window.millrace.capture(event, { n, pad: "x".repeat(chars) })?.uuid ?? "");
      return uuids;
    },
    [name, count, size] as const,
  );
const flush = (page: Page) => page.evaluate(() => window.millrace.flush());

/** Resolves when these ids are rows, and each of them one. */
async function exactlyOnce(name: string, uuids: readonly string[], timeoutMs?: number): Promise<void> {
  const where = `FROM millrace.events WHERE event = '${name}'`;
  await suite.untilCount(`SELECT uniqExact(uuid) ${where}`, uuids.length, timeoutMs);
  const rows = await suite.rows<{ uuid: string }>(`SELECT uuid ${where}`);
  expect(rows.map(({ uuid }) => uuid).sort()).toEqual([...uuids].sort());
}

describe.skipIf(!chromium.available)("a page that closes", () => {
  it("right after capture loses none of 50, cross-origin", async () => {
    const context = await suite.newVisitor();
    const uuids: string[] = [];
    // Nothing is stored for the next page to send: these are the closing requests alone.
    const url = suite.url({ options: { ...QUIET, disablePersistence: true } });
    const visit = async () => {
      for (let i = 0; i < 10; i++) {
        const page = await suite.visit(await context.newPage(), url);
        uuids.push(...(await capture(page, "last words", 1)));
        await page.close();
      }
    };
    await Promise.all([visit(), visit(), visit(), visit(), visit()]);
    expect(uuids).toHaveLength(50);
    await exactlyOnce("last words", uuids);
    await context.close();
  });

  it("with more than a closing request holds keeps the rest for the next visit", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: { ...QUIET, flushAt: 1000 } }));
    const uuids = await capture(page, "much", 300, 2000);
    await page.close();
    const next = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    await flush(next);
    await exactlyOnce("much", uuids);
    await context.close();
  });

  it.each([
    ["at once", 0, undefined],
    ["when the server no longer knows the ids by itself, and is told to look", 2 * 3600_000, true],
  ])("whose events the browser took is followed by a visit that sends them again %s", async (_when, ms, lookUp) => {
    const context = await suite.newVisitor();
    await context.addInitScript(() => {
      const { now } = Date;
      Date.now = () => now() + Number(new URLSearchParams(location.search).get("later") ?? 0);
    });
    scripted.answer(() => ({ status: 200 }));
    const sent = (uuid?: string) => scripted.received.filter(({ batch }) => batch.some((event) => event.uuid === uuid));
    const url = suite.url({ options: { ...QUIET, apiHost: scripted.url } });
    const page = await suite.visit(await context.newPage(), url);
    const [uuid] = await capture(page, "handed over", 1);
    await page.close();
    await expect.poll(() => sent(uuid).length).toBe(1);
    const next = await suite.visit(await context.newPage(), `${url}&later=${ms}`);
    await flush(next);
    expect(sent(uuid).map(({ checkStored }) => checkStored)).toEqual([undefined, lookUp]);
    await context.close();
  });

  it("sends by beacon when told to, with an answer that the browser's CORS check accepts", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    const beacon = page.waitForResponse((answer) => answer.url().includes("beacon=1"));
    await page.evaluate(() => window.millrace.capture("by beacon", {}, { transport: "sendBeacon" }));
    expect((await beacon).status()).toBe(200);
    await flush(page);
    await suite.untilCount("SELECT count() FROM millrace.events WHERE event = 'by beacon'", 1);
    await context.close();
  });
});

describe.skipIf(!chromium.available)("a server", () => {
  it("that is away and comes back has every event exactly once, of closed pages too", {
    timeout: patience(60_000) + 3 * OUTAGE_MS,
  }, async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    const uuids = await capture(page, "outage", 10);
    await flush(page);
    await suite.standalone.process.stop("SIGKILL");
    const downAtMs = performance.now();
    for (let i = 0; i < 10; i++) {
      uuids.push(...(await capture(page, "outage", 10)));
      const closing = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
      uuids.push(...(await capture(closing, "outage", 2)));
      await closing.close();
      await setTimeout(Math.max(0, downAtMs + ((i + 1) * OUTAGE_MS) / 10 - performance.now()));
    }
    await suite.restart();
    await exactlyOnce("outage", uuids, 30_000 + OUTAGE_MS);
    const left = () => page.evaluate(() => window.millrace.counters().queued);
    await expect.poll(left, { timeout: 10_000 }).toBe(0);
    await context.close();
  });

  it("that splits, refuses, limits and loses answers gets each event, with one id", async () => {
    const context = await suite.newVisitor();
    const url = suite.url({ options: { ...QUIET, apiHost: scripted.url, flushAt: 1000 } });
    const page = await suite.visit(await context.newPage(), url);
    // A half of a 413 meets a 503, the one after it a lost answer, then a 429 that asks for time.
    const answers = [413, 503, "lost", 429, 400] as const;
    const given: { answer: number | string; atMs: number }[] = [];
    const accepted: string[] = [];
    scripted.answer(({ atMs, batch }) => {
      const answer = answers[given.length] ?? 200;
      given.push({ answer, atMs });
      // The one that is at fault is found by halves, and takes nothing else with it.
      if (answer === 200 && batch.some(({ properties }) => properties.n === 5)) return { status: 400 };
      if (answer === 200) accepted.push(...batch.map(({ uuid }) => uuid));
      if (answer === "lost") return answer;
      return { status: answer, headers: answer === 429 ? { "retry-after": "2" } : {} };
    });
    const uuids = await capture(page, "split", 10);
    // Chromium itself repeats a request whose connection closed, so that the second may see the 429 already.
    for (let i = 0; i < 2; i++) await expect(flush(page)).rejects.toThrow();
    await expect
      .poll(() => page.evaluate(() => window.millrace.counters()), { timeout: 15_000 })
      .toMatchObject({
        captured: 10,
        sent: 9,
        rejected: 1,
        queued: 0,
      });
    expect(accepted.sort()).toEqual(uuids.filter((_, n) => n !== 5).sort());
    const [limited, next] = given.slice(answers.indexOf(429));
    expect((next?.atMs ?? 0) - (limited?.atMs ?? 0)).toBeGreaterThanOrEqual(2000);
    await context.close();
  });

  it("learns the times of a page whose clock was set back", async () => {
    const context = await suite.newVisitor();
    await context.addInitScript(() => {
      const { now } = Date;
      Date.now = () => now() + Number(window.name || 0);
    });
    scripted.answer(() => ({ status: 200 }));
    const before = scripted.received.length;
    const page = await suite.visit(
      await context.newPage(),
      suite.url({ options: { ...QUIET, apiHost: scripted.url, flushAt: 1000 } }),
    );
    await page.evaluate(async () => {
      window.name = String(3600_000);
      window.millrace.capture("early");
      window.name = "0";
      window.millrace.capture("late");
      await window.millrace.flush();
    });
    const sent = scripted.received.slice(before);
    for (const { batch, sentAt } of sent) {
      for (const { timestamp } of batch) expect(Date.parse(sentAt) - Date.parse(timestamp)).toBeLessThan(5000);
      for (const { timestamp } of batch) expect(Date.parse(sentAt) - Date.parse(timestamp)).toBeGreaterThanOrEqual(-1);
    }
    expect(sent.flatMap(({ batch }) => batch.map(({ event }) => event))).toEqual(["early", "late"]);
    await context.close();
  });
});

describe.skipIf(!chromium.available)("a browser", () => {
  it("without any storage still sends", async () => {
    const profile = join(suite.directory, "profile");
    await mkdir(join(profile, "Default"), { recursive: true });
    const blocked = { profile: { default_content_setting_values: { cookies: 2 } } };
    await writeFile(join(profile, "Default/Preferences"), JSON.stringify(blocked));
    if (!chromium.available) return;
    const context = await chromium.launchWithProfile(profile);
    try {
      const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
      const storage = await page.evaluate(() => {
        try {
          return typeof localStorage;
        } catch (error) {
          return (error as Error).name;
        }
      });
      expect(storage).toBe("SecurityError");
      const uuids = await capture(page, "no storage", 3);
      await flush(page);
      uuids.push(...(await capture(page, "no storage", 1)));
      await page.close();
      await exactlyOnce("no storage", uuids);
    } finally {
      await context.close();
    }
  });

  it("whose database waits for ever for another transaction still sends", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    await capture(page, "blocked", 1);
    await flush(page);
    await page.evaluate(async () => {
      const opening = indexedDB.open("millrace", 1);
      await new Promise((resolve) => {
        opening.onsuccess = resolve;
      });
      const rows = opening.result.transaction("queue", "readwrite").objectStore("queue");
      const hold = () => {
        rows.get("nothing").onsuccess = hold;
      };
      hold();
    });
    await capture(page, "blocked", 2);
    await suite.untilCount("SELECT count() FROM millrace.events WHERE event = 'blocked'", 3);
    await context.close();
  });

  it("without IndexedDB keeps what it has captured when the page clears localStorage", async () => {
    const context = await suite.newVisitor();
    await context.addInitScript(() => Object.defineProperty(window, "indexedDB", { value: undefined }));
    const page = await suite.visit(await context.newPage(), suite.url({ options: QUIET }));
    const uuids = await capture(page, "signed out", 2);
    await page.waitForFunction(() => Object.keys(localStorage).some((key) => key.startsWith("millrace.q ")));
    await page.evaluate(() => localStorage.clear());
    await flush(page);
    await exactlyOnce("signed out", uuids);
    await context.close();
  });

  it("in a sandboxed frame without an origin still sends", async () => {
    const context = await suite.newVisitor();
    scripted.answer(() => ({ status: 200 }));
    const before = scripted.received.length;
    const options = { ...QUIET, apiHost: scripted.url };
    const headers = { "content-security-policy": "sandbox allow-scripts" };
    const page = await suite.visit(await context.newPage(), suite.url({ options }, { headers }));
    await capture(page, "sandboxed", 2);
    await flush(page);
    expect(scripted.received.slice(before).flatMap(({ batch }) => batch)).toHaveLength(2);
    await context.close();
  });

  it("whose quota is used up still sends, and what the page does with localStorage is left alone", async () => {
    const context = await suite.newVisitor();
    const page = await suite.visit(await context.newPage(), suite.url({ options: { ...QUIET, flushAt: 1000 } }));
    const protocol = await context.newCDPSession(page);
    const { origin } = suite.pages;
    await protocol.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 });
    await page.evaluate(() => {
      for (let size = 4_000_000; size > 0; size = Math.floor(size / 2)) {
        try {
          localStorage.setItem(`page-${size}`, "x".repeat(size));
        } catch {
          // Full at this size; the next smaller one fills the rest.
        }
      }
    });
    const uuids = await capture(page, "full", 200, 5000);
    await page.evaluate(() => window.millrace.register({ kept: "in memory" }));
    expect(await page.evaluate(() => window.millrace.get_property("kept"))).toBe("in memory");
    await flush(page);
    await exactlyOnce("full", uuids);
    expect(await page.evaluate(() => localStorage.getItem("page-4000000")?.length)).toBe(4_000_000);
    await context.close();
  });

  it("whose page replaces fetch, beacons and JSON afterwards sends past them", async () => {
    const context = await suite.newVisitor();
    const url = suite.url({ options: { ...QUIET, flushIntervalMs: 250 } });
    const page = await suite.visit(await context.newPage(), url);
    await page.evaluate(() => {
      const refuse = () => {
        throw new Error("not yours");
      };
      Object.assign(window, { fetch: refuse, Blob: refuse, CompressionStream: refuse, setTimeout: refuse });
      Object.assign(navigator, { sendBeacon: refuse });
      Object.assign(JSON, { stringify: refuse, parse: refuse });
      window.millrace.capture("hostile", { pad: "x".repeat(3000) });
    });
    await suite.untilCount("SELECT count() FROM millrace.events WHERE event = 'hostile'", 1);
    await context.close();
  });

  it("on plain http, without Web Locks, sends from two tabs what both captured", async () => {
    const context = await suite.newVisitor();
    const url = suite.url({ options: QUIET }, { host: "page.test" });
    const tabs = [await context.newPage(), await context.newPage()];
    await Promise.all(tabs.map((tab) => suite.visit(tab, url)));
    const hasLocks = await Promise.all(tabs.map((tab) => tab.evaluate(() => "locks" in navigator)));
    expect(hasLocks).toEqual([false, false]);
    const ids = await Promise.all(tabs.map((tab) => capture(tab, "plain http", 30)));
    await Promise.all(tabs.map(flush));
    await exactlyOnce("plain http", ids.flat());
    const people = "SELECT uniqExact(distinct_id) FROM millrace.events WHERE event = 'plain http'";
    expect(await suite.standalone.query(people)).toBe("1");
    await context.close();
  });
});
