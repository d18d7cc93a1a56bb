// The console in a real browser over `millrace start`: each view, the way of a first event, hostile text, and what is shown
// when something is missing.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createTestCertificates } from "../kit/certificates.ts";
import { insert, post, publish, seedConsole } from "../kit/console-scene.ts";
import { type RunningStandalone, run, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { chromiumForTests } from "./support/chromium.ts";

const chromium = chromiumForTests();
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = ["overview", "live", "events", "people", "where", "dead-letters", "hosts", "start"];
const BYTES_MAX = 80_000;
/** Charts can be kept at the width they were drawn for, as they are for a moment after the window has changed. */
const HELD_SIZES = `const Sizes = ResizeObserver;
  window.ResizeObserver = class extends Sizes {
    constructor(tell) { super((...all) => window.sizesAreHeld || tell(...all)); }
  };`;
const HTML = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>";
const RTL = "\u202egnp.exe \u2067back";
const PROTO = "__proto__";
const NUL = "nul\0end";
/** More than any name of the scene. */
const OFTEN = 500;
/** What means something in an address, in SQL or in a pattern. */
const SIGNS = "/../%2F?a=b&c#d+e%\\';--";

let standalone: RunningStandalone;
let browser: Browser;
let parameters: Record<string, string>;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  if (!chromium.available) return;
  const directory = stack.use(await temporaryDirectory());
  [standalone, browser] = await Promise.all([startStandalone({ dataDir: directory.path }), chromium.launch()]);
  stack.use(standalone);
  stack.defer(() => browser.close());
  parameters = await seedConsole(standalone, { count: 800 });
});
afterAll(() => stack.disposeAsync());

interface Opened extends AsyncDisposable {
  page: Page;
  /** Whatever the browser complained about, and requests that left the origin. */
  complaints: string[];
}

async function open(
  view: string,
  options: Parameters<Browser["newContext"]>[0] = {},
  base = standalone.statsUrl,
): Promise<Opened> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => request.url().startsWith(base) || complaints.push(`asked ${request.url()}`));
  await page.goto(`${base}/#/${view}${parameters[view] ?? ""}`);
  return { page, complaints, [Symbol.asyncDispose]: () => context.close() };
}

const card = (page: Page, title: string) =>
  page.locator(".card", { has: page.getByRole("heading", { name: title, exact: true }) });

/** One that has all of it in every text that somebody else says. */
async function insertHostileAlert(): Promise<void> {
  const quoted = (text: string) => `'${text.replace(/[\\']/g, "\\$&").replaceAll("\0", "\\0")}'`;
  const long = "repeat('x', 1000000)";
  const tags = `map('<script>', concat(char(0), ${long}), '${PROTO}', ${quoted(RTL)}, ${quoted(RTL)}, ${quoted(HTML)}, ${quoted(SIGNS)}, ${quoted(SIGNS)}, ${long}, '')`;
  const metric = `concat('<b>alert', char(0), ${quoted(RTL)}, ${long})`;
  const [id, change] = [crypto.randomUUID(), crypto.randomUUID()];
  await insert(
    standalone,
    `INSERT INTO millrace.alerts (alert_id, version, is_deleted, write_id, metric, tags, level, operator, threshold, threshold_text, duration_ms, duration, post, group_by, no_data, created_at, updated_at)
     VALUES ('${id}', 1, 0, '${id}', ${metric}, ${tags}, 'crit', ${quoted(HTML)}, 1, ${quoted(HTML)}, 300000, ${quoted(HTML)}, ${quoted(HTML)}, [${quoted(RTL)}], 'keep', now64(3), now64(3))`,
  );
  await insert(
    standalone,
    `INSERT INTO millrace.alert_events (kind, transition_id, alert_id, at, alert_version, scope, group_tags, level, previous_level, value, window_start, metric, payload, post)
     VALUES ('transition', '${change}', '${id}', now64(3), 1, 'scene', ${tags}, ${quoted(HTML)}, 'ok', NULL, now64(3), ${metric}, ${quoted(HTML)}, ${quoted(HTML)})`,
  );
  await insert(
    standalone,
    `INSERT INTO millrace.alert_events (kind, transition_id, alert_id, at, attempts, http_status, error)
     VALUES ('failed', '${change}', '${id}', now64(3), 1, 0, concat(${quoted(HTML)}, char(0), ${long}))`,
  );
}

/** Everything that was asked for is there. Start goes on waiting for an event. */
async function settled(page: Page, view: string): Promise<void> {
  await page.locator("main .card").first().waitFor();
  if (view !== "start") await page.locator("main .spinner").first().waitFor({ state: "hidden" });
}

describe.skipIf(!chromium.available)("the page", () => {
  it("is for browsers; others get what they got before, and the gateway points to it", async () => {
    const html = await fetch(standalone.statsUrl, { headers: { accept: "text/html,application/xhtml+xml" } });
    expect(html.headers.get("content-security-policy")).toMatch(/^default-src 'none'; script-src 'self';.* lit-html$/);
    for (const accept of ["*/*", "application/json"]) {
      const answer = await fetch(standalone.statsUrl, { headers: { accept } });
      expect(await answer.text()).toMatch(/^Millrace: statistics/);
    }
    await using opened = await open("start");
    await opened.page.goto(standalone.url);
    await opened.page.getByRole("link").click();
    await opened.page.getByRole("heading", { name: "Overview" }).waitFor();
  });

  it("takes less than 80 KB in all, and nothing again that has not changed", async () => {
    await using opened = await open("overview");
    await settled(opened.page, "overview");
    const loaded = await opened.page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => name));
    const own = loaded.filter((name) => name.includes("/console/"));
    expect(own.length).toBeGreaterThan(15);
    let bytes = 0;
    for (const url of [`${standalone.statsUrl}/`, ...own]) {
      const headers = { accept: "text/html", "accept-encoding": "gzip" };
      const answer = await fetch(url, { headers });
      bytes += Number(answer.headers.get("content-length"));
      await answer.arrayBuffer();
      const etag = answer.headers.get("etag");
      if (etag) expect((await fetch(url, { headers: { ...headers, "if-none-match": etag } })).status).toBe(304);
    }
    expect(bytes).toBeLessThan(BYTES_MAX);
  });

  it.each(VIEWS)("%s is accessible in both themes, and never scrolls sideways", async (view) => {
    await using opened = await open(view, { bypassCSP: true });
    const { page } = opened;
    await page.addInitScript(HELD_SIZES);
    await page.reload();
    await settled(page, view);
    await page.evaluate(`window.sizesAreHeld = true; ${AXE}`);
    for (const [colorScheme, width] of [["light", 1920] as const, ["dark", 360] as const]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      // The dark theme differs in colours only.
      const rules = colorScheme === "light" ? {} : { runOnly: ["color-contrast"] };
      const { faults, overflow } = await page.evaluate(async (options) => {
        type Violations = { violations: { id: string; nodes: { html: string }[] }[] };
        const { axe } = window as unknown as { axe: { run(options: object): Promise<Violations> } };
        const { scrollWidth, clientWidth } = document.documentElement;
        return {
          faults: (await axe.run(options)).violations.map(
            ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`,
          ),
          overflow: scrollWidth - clientWidth,
        };
      }, rules);
      expect(faults, `${view} ${colorScheme}`).toEqual([]);
      expect(overflow, `${view} ${width}`).toBe(0);
    }
  });
});

describe.skipIf(!chromium.available)("views", () => {
  it("overview: rates, what is stored, and what is in it", async () => {
    await using opened = await open("overview");
    const { page, complaints } = opened;
    await card(page, "What is in them?").getByText("page_view").waitFor();
    await card(page, "Are they stored?").getByText("Newest row").first().waitFor();
    await card(page, "Are events arriving?").locator("canvas").waitFor();
    await page.getByText("could not be stored").waitFor();
    expect(complaints).toEqual([]);
  });

  it("events: a name's trend by a property, its properties and newest events", async () => {
    await using opened = await open("events");
    const { page, complaints } = opened;
    await page.locator(".legend").getByText("pro").waitFor();
    await card(page, "Properties").getByRole("button", { name: "browser" }).click();
    await page.locator(".legend").getByText("Firefox").waitFor();
    expect(page.url()).toContain("by=browser");
    await card(page, "Names").getByRole("button", { name: "checkout" }).click();
    await page.getByRole("heading", { name: "checkout" }).waitFor();
    const rows = card(page, "Newest").locator(".row");
    await rows.first().click();
    await page.keyboard.press("ArrowDown");
    await expect.poll(() => rows.nth(1).evaluate((row) => row === document.activeElement)).toBe(true);
    await page.getByText('"browser":').first().waitFor();
    await page.getByRole("searchbox").fill("no such name");
    await page.getByText("No name contains this").waitFor();
    expect(complaints).toEqual([]);
  });

  it("people: ids, properties and timeline of one of them", async () => {
    await using opened = await open("people");
    const { page, complaints } = opened;
    await card(page, "Person").getByText("anon_0").waitFor();
    await card(page, "Person").getByText("user0@example.com").waitFor();
    await card(page, "Timeline").getByText("first_event").waitFor();
    await page.getByRole("searchbox").fill("user_10");
    await card(page, "Found").getByRole("button", { name: "user_104" }).click();
    await card(page, "Person").getByText("user4@example.com").waitFor();
    expect(complaints).toEqual([]);
  });

  it("dead letters: by class, and the command that tries again", async () => {
    await using opened = await open("dead-letters");
    const { page, complaints } = opened;
    await page.getByRole("button", { name: "undecodable", exact: true }).click();
    await page.getByRole("button", { name: /invalid wire type/ }).click();
    await page.getByText("millrace dead-letters replay 'scene:millrace.events:9:17' --dry-run").waitFor();
    expect(complaints).toEqual([]);
  });

  it("hosts: a metric by host, alerts with their state and history", async () => {
    await using opened = await open("hosts");
    const { page, complaints } = opened;
    await page.locator(".legend").getByText("web-2").waitFor();
    await page.getByRole("button", { name: "ram_used" }).click();
    await page.getByRole("heading", { name: "ram_used" }).waitFor();
    const rowsOf = (title: string) => card(page, title).locator("tbody tr");
    // In the red on one host and well again on another: in the red.
    await expect
      .poll(() => rowsOf("Alerts").allInnerTexts())
      .toEqual([
        expect.stringMatching(/^ok\s+queue_length > 1,000\s+5 min 0 s$/),
        expect.stringMatching(/^crit\s+disk_used > 0\.9\s+5 min 0 s$/),
      ]);
    await expect
      .poll(() => rowsOf("History of alerts").allInnerTexts())
      .toEqual([
        expect.stringMatching(/crit\s+disk_used host=web-1\s+0\.97\s+delivered$/),
        expect.stringMatching(/ok\s+disk_used host=web-2\s+0\.71\s+delivered$/),
        expect.stringMatching(/crit\s+disk_used host=web-2\s+0\.93\s+delivered$/),
      ]);
    expect(complaints).toEqual([]);
  });

  it("live: quick with hundreds of events a second, paused, filtered by a property", async () => {
    await using opened = await open("live");
    const { page, complaints } = opened;
    await page.locator(".aside").getByText("Live", { exact: true }).waitFor();
    for (let batch = 0; batch < 5; batch++) {
      await publish(
        standalone.url,
        Array.from({ length: 300 }, (_, n) => ({ event: "burst", distinctId: "b", properties: { n, batch } })),
      );
      await page
        .locator(".row", { hasText: `"batch":${batch}` })
        .first()
        .waitFor();
      expect(await page.locator(".row").count()).toBeLessThan(100);
    }
    await page.getByRole("button", { name: "Pause" }).click();
    await publish(standalone.url, [{ event: "later", distinctId: "b" }]);
    await page.getByText("1 held back").waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    await page.locator(".row", { hasText: "later" }).waitFor();
    await page.getByLabel("Property").fill("colour=red");
    await page.getByRole("button", { name: "Filter" }).click();
    await publish(standalone.url, [
      { event: "painted", distinctId: "p", properties: { colour: "blue", which: "other" } },
      { event: "painted", distinctId: "p", properties: { colour: "red", which: "wanted" } },
    ]);
    await page.locator(".row", { hasText: "wanted" }).waitFor();
    expect(await page.locator(".row", { hasText: "other" }).count()).toBe(0);
    await page.locator(".row", { hasText: "stored" }).waitFor();
    expect(complaints).toEqual([]);
  });

  it("the way of a first event: the page's own line, stored, live, found by Where", async () => {
    await using opened = await open("start");
    const { page, complaints } = opened;
    const line = (await page.locator(".snippet pre").textContent()) ?? "";
    expect(line).toContain(`curl -s ${standalone.url}/events`);
    expect((await run("sh", ["-c", line])).stdout).toBe('{"status":"accepted"}');
    await page.getByText("There it is").waitFor();
    await page.getByRole("link", { name: "live", exact: true }).click();
    await page
      .locator(".row", { hasText: "console" })
      .or(page.locator(".row", { hasText: "you" }))
      .first()
      .click();
    await card(page, "Event").locator("a.mono").click();
    await page.getByRole("heading", { name: "Where", exact: true }).waitFor();
    await card(page, "Answer")
      .getByText(/^Stored: first_event of you/)
      .waitFor();
    await page.getByLabel("Ids of events").fill("00000000-0000-4000-8000-000000000000");
    await page.getByRole("button", { name: "Find" }).click();
    await page.getByText("never seen", { exact: true }).waitFor();
    expect(complaints).toEqual([]);
  });

  it("digits of numbers are shown as they were sent", async () => {
    const distinctId = "digits";
    const id = crypto.randomUUID();
    const numbers = '{"big":9007199254740993,"price":1.50,"huge":1e400}';
    const events = `[{"id":"${id}","event":"counted","distinctId":"${distinctId}","properties":${numbers}},
      {"event":"$identify","distinctId":"${distinctId}","properties":{"$set":${numbers}}}]`;
    await publish(standalone.url, events);
    const stored = `SELECT count() FROM millrace.events_raw WHERE distinct_id = '${distinctId}'`;
    await vi.waitFor(async () => expect(await standalone.query(stored)).toBe("2"), { timeout: 20_000 });
    await using opened = await open("overview");
    const { page } = opened;
    for (const [view, query] of Object.entries({
      live: { where: "big=9007199254740993" },
      events: { event: "counted" },
      people: { id: distinctId },
      where: { id },
    })) {
      await page.goto(`${standalone.statsUrl}/#/${view}?${new URLSearchParams(query)}`);
      await settled(page, view);
      if (view === "live" || view === "events") await page.locator("main .row", { hasText: "counted" }).first().click();
      const json = page.locator(".json pre").first();
      await json.waitFor();
      expect(await json.textContent(), view).toMatch(
        /"big": 9007199254740993,\n {2}("huge": 1e400,\n {2})?"price": 1\.50/,
      );
    }
  });

  it("hostile text is text, in every view", async () => {
    const names = [HTML, RTL, PROTO, SIGNS, "x".repeat(200)];
    const ids = names.map(() => crypto.randomUUID());
    const long = "x".repeat(800_000);
    const hostile = (event: string) => ({ event, distinctId: event, source: RTL });
    await publish(
      standalone.url,
      names.map((event, n) => ({
        ...hostile(event),
        id: ids[n],
        properties: { [HTML]: HTML, [RTL]: RTL, nul: NUL, long, [PROTO]: 1 },
      })),
    );
    // So many that they are among the most frequent.
    await publish(
      standalone.url,
      names.flatMap((event) => Array.from({ length: OFTEN }, () => hostile(event))),
    );
    await publish(standalone.url, [
      { event: "$identify", distinctId: RTL, properties: { $set: { [HTML]: HTML, [PROTO]: RTL, long } } },
    ]);
    const refused = crypto.randomUUID();
    await post(standalone.url, [{ ...hostile(HTML), id: refused, distinctId: long, properties: { [RTL]: NUL } }]);
    await insert(
      standalone,
      `INSERT INTO millrace.dead_letters VALUES ('scene', 'millrace.events', 9, 99, now64(3), '<b>class', concat('<script>', char(0), repeat('x', 1000000)), '', base64Encode(repeat('<b>', 400000)))`,
    );
    await insert(
      standalone,
      `INSERT INTO millrace.points (uuid, metric, value, tags, time, inserted_at, relay_id, collector, log_epoch, log_topic, log_partition, log_offset, log_time)
       VALUES (generateUUIDv4(), '<b>metric', 1, map('host', concat('<script>', char(0))), now64(6), now64(6), 'r', 'c', 'scene', 'millrace.points', 9, 9999, now64(3))`,
    );
    await insertHostileAlert();
    const stored = `SELECT count() FROM millrace.events_raw WHERE distinct_id IN ('${PROTO}', '${RTL}')`;
    const rows = String(2 + 2 * OFTEN + 1);
    await vi.waitFor(async () => expect(await standalone.query(stored)).toBe(rows), { timeout: 20_000 });
    const places: [view: string, query: Record<string, string>][] = [
      ["overview", {}],
      ["live", {}],
      ...names.map((event): [string, Record<string, string>] => ["events", { event, by: HTML }]),
      ...names.map((id): [string, Record<string, string>] => ["people", { id }]),
      ["where", { id: HTML }],
      ...[...ids, refused].map((id): [string, Record<string, string>] => ["where", { id }]),
      ["dead-letters", { class: "<b>class" }],
      ["hosts", { metric: "<b>metric" }],
      ["start", {}],
    ];
    await using opened = await open("overview");
    const { page, complaints } = opened;
    for (const [view, query] of places) {
      await page.goto(`${standalone.statsUrl}/#/${view}?${new URLSearchParams(query)}`);
      await settled(page, view);
      const place = `${view} ${JSON.stringify(query).slice(0, 60)}`;
      const row = page.locator("main .row", { hasText: /img|gnp|__proto|%2F|xxx|<script|<b>/ }).first();
      if (["live", "events", "people", "dead-letters", "hosts"].includes(view)) await row.click();
      const seen = await page.evaluate(() => {
        const text = document.body.textContent;
        const asked = document.querySelector("textarea")?.value ?? "";
        return {
          isHacked: "hacked" in window || "polluted" in Object.prototype,
          elements: document.querySelectorAll("main script, main img, main b").length,
          hidden: [...text].filter((character) => "\0\u202e\u2067".includes(character)).length,
          isShort: text.length < 100_000,
          isThere: /img src|gnp|__proto|%2F|xxx|<script|<b>/.test(text + asked),
        };
      });
      // Start shows nobody's text.
      expect(seen, place).toEqual({
        isHacked: false,
        elements: 0,
        hidden: 0,
        isShort: true,
        isThere: view !== "start",
      });
      // The address that the view made of its state brings it back.
      if (query.event === SIGNS) await page.getByRole("heading", { name: SIGNS }).waitFor();
      if (view === "hosts") {
        await card(page, "Alerts").getByText("<b>alert").waitFor();
        const entry = card(page, "History of alerts").locator("tr", { hasText: "<b>alert" });
        for (const text of ["<script>", "__proto__", "gnp", "%2F?a=b"]) await entry.getByText(text).first().waitFor();
      }
      if (query.id === SIGNS) await card(page, "Person").getByText(SIGNS).first().waitFor();
    }
    // What is not an id is refused in words.
    expect(complaints.filter((text) => !text.includes("400"))).toEqual([]);
  });
});

describe.skipIf(!chromium.available)("too much and too little", () => {
  it("ten thousand names are counted, and the most frequent are shown", async () => {
    await insert(
      standalone,
      `INSERT INTO millrace.events_raw (uuid, event, distinct_id, timestamp, inserted_at, properties, log_epoch, log_topic, log_partition, log_offset, log_time)
       SELECT generateUUIDv4(), concat('name_', toString(number)), 'many', now64(6), now64(6), '{}', 'scene', 'millrace.events', 9, 100 + number, now64(3) - INTERVAL 1 HOUR FROM numbers(10000)`,
    );
    await using opened = await open("events");
    const { page, complaints } = opened;
    await page.getByText(/^The 500 most frequent of 10,0\d\d/).waitFor();
    expect(await card(page, "Names").locator("tbody tr").count()).toBe(501);
    await page.getByRole("searchbox").fill("name_9999");
    await card(page, "Names").getByRole("button", { name: "name_9999" }).click();
    await page.getByRole("heading", { name: "name_9999" }).waitFor();
    expect(complaints).toEqual([]);
  });

  it("a time without events says so, in each card", async () => {
    await using opened = await open("start");
    const { page, complaints } = opened;
    await page.goto(`${standalone.statsUrl}/#/events?event=nobody_sends_this&range=1h`);
    await page.getByText("Nothing came in this time").waitFor();
    await card(page, "Properties").getByText("No properties").waitFor();
    await card(page, "Newest").getByText("No events in this time").waitFor();
    await page.goto(`${standalone.statsUrl}/#/people?id=nobody_has_this`);
    await page.getByText("Nobody found").waitFor();
    await card(page, "Timeline").getByText("No events in this time").waitFor();
    expect(complaints).toEqual([]);
  });

  it.each([-40, 40])("a browser's clock that is %i days off changes nothing but what it is told", async (days) => {
    await using opened = await open("start");
    const { page } = opened;
    await page.clock.setSystemTime(Date.now() + days * 86_400_000);
    await page.goto(`${standalone.statsUrl}/#/events?event=page_view`);
    await page.reload();
    await page.getByText(`This browser's clock is 40 d 0 h ${days < 0 ? "behind" : "ahead"}`).waitFor();
    await card(page, "Newest").locator(".row").first().waitFor();
    await page.goto(`${standalone.statsUrl}/#/overview`);
    await card(page, "What is in them?").getByText("page_view").waitFor();
    await card(page, "Are they stored?")
      .getByText(/ago|now/)
      .first()
      .waitFor();
  });
});

describe.skipIf(!chromium.available)("what is missing", () => {
  it("the server: said at once in every view, and over when it is back", async () => {
    await using opened = await open("overview");
    const { page } = opened;
    const isOld = page.getByText("The server does not answer. What you see may be old");
    await card(page, "What is in them?").getByText("page_view").waitFor();
    await page.route("**/*", (route) => route.abort());
    await isOld.waitFor();
    // What was known is shown still.
    await card(page, "What is in them?").getByText("page_view").waitFor();
    for (const view of VIEWS.slice(1)) {
      await page.goto(`${standalone.statsUrl}/#/${view}${parameters[view] ?? ""}`);
      await page.locator("main").getByText("The server does not answer.").first().waitFor();
      await isOld.waitFor();
    }
    await page.unroute("**/*");
    for (const view of VIEWS.toReversed()) {
      await page.goto(`${standalone.statsUrl}/#/${view}${parameters[view] ?? ""}`);
      await isOld.waitFor({ state: "hidden" });
      await settled(page, view);
    }
  });

  it("an answer: an error with a way on", async () => {
    await using opened = await open("events");
    const { page } = opened;
    const json = { code: "unavailable", message: "ClickHouse cannot be asked now" };
    await page.route("**/*ListMetrics", (route) => route.fulfill({ status: 503, json }));
    await page.goto(`${standalone.statsUrl}/#/hosts`);
    await page.getByText("ClickHouse cannot be asked now").waitFor();
    await page.unroute("**/*ListMetrics");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("button", { name: "ram_used" }).waitFor();
  });

  it("the key: asked for, kept in the tab alone, and asked for again when it is revoked", async () => {
    await using opened = await open("start");
    const { page } = opened;
    let accepted = "right";
    await page.context().route("**/millrace.stats.v1.*/*", async (route) => {
      const given = await route.request().headerValue("authorization");
      if (given === `Bearer ${accepted}`) await route.continue();
      else
        await route.fulfill({ status: 401, json: { code: "unauthenticated", message: "the key is missing or wrong" } });
    });
    await page.goto(`${standalone.statsUrl}/#/people`);
    for (const [key, then] of [
      ["wrong", "This key is not accepted"],
      ["right", "user_100"],
    ] as const) {
      await page.getByLabel("Key").first().fill(key);
      await page.getByRole("button", { name: "Show" }).first().click();
      await page.getByText(then).first().waitFor();
    }
    const kept = await page.evaluate(() => [
      ...[sessionStorage.length, localStorage.length, document.cookie],
      location.href.includes("right"),
    ]);
    expect(kept).toEqual([1, 0, "", false]);
    const other = await page.context().newPage();
    await other.goto(`${standalone.statsUrl}/#/overview`);
    await other.getByText("This server asks for a key").first().waitFor();
    await page.goto(`${standalone.statsUrl}/#/overview`);
    await card(page, "What is in them?").getByText("page_view").waitFor();
    accepted = "another";
    await page.getByText("This key is not accepted").first().waitFor();
  });

  it("the front: all works below a proxy's prefix, over HTTPS", async () => {
    const { port } = new URL(standalone.statsUrl);
    await using stopping = new AsyncDisposableStack();
    const certificates = stopping.use(await createTestCertificates());
    const cert = await certificates.make("proxy");
    const key = readFileSync(certificates.keyFile("proxy"));
    const proxy = createServer({ cert, key }, (request, response) => {
      const path = (request.url ?? "").replace(/^\/ops\/millrace/, "");
      const { method, headers } = request;
      const passed = httpRequest({ port, host: "127.0.0.1", path, method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      request.pipe(passed);
      response.on("close", () => passed.destroy());
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    stopping.defer(() => {
      proxy.closeAllConnections();
      proxy.close();
    });
    const base = `https://127.0.0.1:${(proxy.address() as AddressInfo).port}/ops/millrace`;
    await using opened = await open("events", { ignoreHTTPSErrors: true }, base);
    await opened.page.locator(".legend").getByText("pro").waitFor();
    await opened.page.goto(`${base}/#/live`);
    await opened.page.locator(".row").first().waitFor();
    expect(opened.complaints).toEqual([]);
  });
});
