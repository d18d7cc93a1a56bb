// Where an event is: each state as it comes about for real, and told alike by the command, GET /v1/receipts, ReceiptService
// and the page.
import { randomUUID } from "node:crypto";
import { enumToJson, toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError } from "@connectrpc/connect";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { DeadLetterService } from "#gen/millrace/stats/v1/dead_letters_pb.ts";
import {
  type Receipt,
  ReceiptSchema,
  ReceiptService,
  ReceiptState,
  ReceiptStateSchema,
} from "#gen/millrace/stats/v1/receipts_pb.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { main as persons } from "../../commands/persons/main.ts";
import { main as verify } from "../../commands/verify/main.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callCommand } from "../kit/command.ts";
import { poisonRecord } from "../kit/consumer.ts";
import { type DeadLetterStage, startDeadLetterStage } from "../kit/dead-letters.ts";
import { type EventViewsStage, startEventViews } from "../kit/event-views.ts";
import { chromiumForTests } from "./support/chromium.ts";

const chromium = chromiumForTests();
let clickhouse: TestClickHouse;
let stage: DeadLetterStage;
let views: EventViewsStage;
let browser: Browser;
let page: Page;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  if (!chromium.available) return;
  [clickhouse, browser] = await Promise.all([startTestClickHouse(), chromium.launch()]);
  stack.use(clickhouse);
  stack.defer(() => browser.close());
  stage = stack.use(await startDeadLetterStage(clickhouse, "where_faces"));
  views = stack.use(await startEventViews(stage, { refusalsFrom: [stage.gatewayUrl] }));
  page = await browser.newPage({ reducedMotion: "reduce" });
});
afterAll(() => stack.disposeAsync());

interface Sent {
  id: string;
  /** "" when the gateway refused it. */
  position: string;
}

async function send(event: Record<string, unknown>): Promise<Sent> {
  const sent = { id: randomUUID(), event: "bought", distinctId: "ann", ...event };
  const answer = await fetch(`${stage.gatewayUrl}/millrace.events.v1.EventService/Publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ events: [sent], returnPositions: true }),
  });
  const { positions = [] } = (await answer.json()) as { positions?: string[] };
  return { id: sent.id, position: positions[0] ?? "" };
}

/** Sends, and waits until the consumer is through with it. */
async function settled(event: Record<string, unknown>): Promise<Sent> {
  const sent = await send(event);
  await stage.drained();
  return sent;
}

/** What the page says: badge, sentence, what is known of each sighting, refusals and gaps. */
async function shownAt(id: string) {
  const address = `${views.url}/#/where?${new URLSearchParams({ id })}`;
  if (page.url() === address) await page.reload();
  else await page.goto(address);
  const receipt = page.locator(".receipt", { has: page.getByText(id, { exact: true }).first() });
  await receipt.waitFor();
  return receipt.evaluate((element) => ({
    badge: element.querySelector(".badge")?.textContent,
    text: element.querySelector(".answer")?.textContent,
    facts: [...element.querySelectorAll(".facts")].map((list) =>
      Object.fromEntries(
        [...list.querySelectorAll("dt")].map((term) => {
          const fact = term.nextElementSibling;
          return [term.textContent, (fact?.querySelector(".foreign") ?? fact)?.textContent];
        }),
      ),
    ),
    commands: [...element.querySelectorAll(".snippet pre")].map(({ textContent }) => textContent),
    refusals: element.querySelectorAll(".refusal").length,
    gaps: [...element.querySelectorAll(".warn:not(.badge)")].map(({ textContent }) => textContent),
  }));
}

/** As the page names it. */
const nameOf = (state: ReceiptState) =>
  enumToJson(ReceiptStateSchema, state)?.replace("RECEIPT_STATE_", "").toLowerCase().replaceAll("_", " ");

/** Each of the four is a question or two, and the page is loaded anew. */
const TOLD_WITHIN = { timeout: 20_000, interval: 200 };

/** Asks all four, which have to say the same; once more if the event has moved on in between. */
function toldAlike(id: string): Promise<Receipt> {
  return vi.waitFor(async () => {
    const [receipt] = (await views.client(ReceiptService).where({ ids: [id] })).receipts;
    if (!receipt) throw new Error("no receipt");
    const told = toJson(ReceiptSchema, receipt);
    const rest = await fetch(`${views.url}/v1/receipts/${encodeURIComponent(id)}`);
    expect([rest.status, await rest.json()]).toEqual([200, told]);
    expect(JSON.parse((await views.run("where", id, "--json")).out)).toEqual(told);
    const { STORED, DUPLICATE, ERASED } = ReceiptState;
    expect(await views.run("where", id)).toEqual({
      code: ([STORED, DUPLICATE, ERASED] as number[]).includes(receipt.state) ? 0 : 3,
      out: `${receipt.id}  ${receipt.text}\n`,
      err: "",
    });
    const shown = await shownAt(id);
    expect(shown).toMatchObject({ badge: nameOf(receipt.state), text: receipt.text, gaps: receipt.gaps });
    expect(shown.refusals).toBe(receipt.refusals.length);
    const letters = receipt.sightings.flatMap(({ letter }) => letter?.replay ?? []);
    expect(shown.commands).toEqual(letters);
    expect(shown.facts.map(({ Position }) => Position)).toEqual(
      receipt.sightings.map(({ position }) => position?.name),
    );
    return receipt;
  }, TOLD_WITHIN);
}

const statesOf = ({ sightings }: Receipt) => sightings.map(({ state }) => nameOf(state));

describe.skipIf(!chromium.available)("an event, told alike by command, REST, RPC and page", () => {
  it("that nobody sent is never seen", async () => {
    const receipt = await toldAlike(randomUUID());
    expect(receipt).toMatchObject({ state: ReceiptState.NEVER_SEEN, gaps: [] });
    expect(receipt.text).toMatch(/^Never seen/);
  });

  it("waits while the consumer is stopped, and is stored when it runs", async () => {
    const { id, position } = await send({ properties: { plan: "pro" } });
    const waiting = await toldAlike(id);
    expect([nameOf(waiting.state), waiting.text]).toEqual(["waiting", expect.stringContaining("bought of ann")]);
    expect((await toldAlike(position)).state).toBe(ReceiptState.WAITING);
    stage.startConsumer();
    // The page that is open asks until it is there.
    await page.locator(".badge", { hasText: "stored" }).waitFor();
    const stored = await toldAlike(id);
    expect(statesOf(stored)).toEqual(["stored"]);
    expect(stored.sightings[0]?.position?.name).toBe(stage.nameOf(0));
    expect(timestampMs(stored.sightings[0]?.stored as never)).toBeGreaterThan(0);
  });

  it("that was sent twice is stored once, its repeat a duplicate", async () => {
    const event = { id: randomUUID(), properties: { n: 1 } };
    await settled(event);
    const { position } = await settled(event);
    expect(statesOf(await toldAlike(event.id))).toEqual(["stored", "duplicate"]);
    expect((await toldAlike(position)).text).toMatch(/^Duplicate: .* Nothing is lost\.$/);
  });

  it("whose id came again with another content is a conflict there", async () => {
    const { id } = await settled({ properties: { price: 1 } });
    const { position } = await settled({ id, properties: { price: 2 } });
    expect((await toldAlike(position)).state).toBe(ReceiptState.CONFLICT);
    const receipt = await toldAlike(id);
    expect(statesOf(receipt)).toEqual(["stored", "conflict"]);
    expect(receipt.text).toContain("Its id came again once with other contents, which were not stored");
  });

  it("that cannot be stored is a dead letter, with the command that replays it", async () => {
    const at = await stage.end();
    await stage.append(poisonRecord);
    const receipt = await toldAlike(stage.nameOf(at));
    expect(statesOf(receipt)).toEqual(["dead letter"]);
    expect(receipt.sightings[0]?.letter?.replay).toBe(`millrace dead-letters replay ${stage.nameOf(at)}`);
  });

  it("that the gateway refused is told with reason and field", async () => {
    const { id, position } = await send({ event: "x".repeat(300) });
    expect(position).toBe("");
    const receipt = await toldAlike(id);
    expect(receipt.state).toBe(ReceiptState.REFUSED);
    expect(receipt.refusals[0]).toMatchObject({ reason: "too_large", field: "event" });
  });

  it("of a person that was deleted is erased, and its id is no longer known", async () => {
    const { id, position } = await settled({ distinctId: "to be forgotten" });
    const deleted = await callCommand(persons, ["delete", "--distinct-id", "to be forgotten", "--yes"], stage.env);
    expect(deleted).toMatchObject({ code: 0, out: expect.stringContaining("nothing is left") });
    const receipt = await toldAlike(position);
    expect(receipt.state).toBe(ReceiptState.ERASED);
    expect(deleted.out).toContain(receipt.sightings[0]?.erasureId);
    const unknown = await toldAlike(id);
    expect(unknown.state).toBe(ReceiptState.UNKNOWN);
    expect(unknown.text).toContain("were erased or given up");
  });

  it("that the log let go before it was stored is lost once it is given up, and what came after it is stored", async () => {
    await stage.stopConsumer();
    const lost = await send({ event: "let go" });
    const kept = await send({ event: "kept" });
    await stage.log.trim(EVENTS_TOPIC, 0, Number(kept.position.split(":").at(-1)));
    expect((await toldAlike(lost.position)).state).toBe(ReceiptState.UNKNOWN);
    const given = await callCommand(verify, ["--allow-lag", "--accept-lost", "1"], stage.env);
    expect(given.out).toContain("1 given up as lost");
    const receipt = await toldAlike(lost.position);
    expect(receipt.state).toBe(ReceiptState.LOST);
    expect(receipt.text).toContain("--accept-lost");
    stage.startConsumer();
    await stage.drained();
    expect((await toldAlike(kept.id)).state).toBe(ReceiptState.STORED);
  });
});

describe.skipIf(!chromium.available)("a dead letter", () => {
  const constraint = (change: string) => stage.warehouse.command(`ALTER TABLE events_raw ${change}`);

  it("is replayed from the page with a secret key, after a dry run, and once", async () => {
    stage.startConsumer();
    await constraint("ADD CONSTRAINT not_yet CHECK event != 'not yet'");
    await settled({ event: "good" });
    const { id, position } = await settled({ event: "not yet" });
    expect((await toldAlike(id)).state).toBe(ReceiptState.DEAD_LETTER);
    await constraint("DROP CONSTRAINT not_yet");
    await using closed = await startEventViews(stage, { statsToken: "token", secretApiKeys: ["secret"] });
    const end = await stage.end();

    await page.goto(`${closed.url}/#/dead-letters`);
    await page.getByLabel("Key").fill("token");
    await page.getByRole("button", { name: "Show" }).click();
    // The newest is the first.
    await page.locator(".row").first().click();
    const dryRun = page.getByRole("button", { name: "Dry run" });
    await dryRun.click();
    await page.getByText("the key is missing or no secret one").waitFor();
    await page.getByLabel("Secret key").fill("secret");
    await dryRun.click();
    await page.getByText("1 letter would be put on the log again.").waitFor();
    await page.getByText('event "not yet"').waitFor();
    expect(await stage.end()).toBe(end);
    await page.getByRole("button", { name: "Replay 1 letter" }).click();
    await page.getByText("1 letter put on the log again.").waitFor();
    expect(await stage.end()).toBe(end + 1);
    await stage.drained();
    await dryRun.click();
    await page.getByText("0 letters would be put on the log again; 1 stored already.").waitFor();
    expect(await page.getByRole("button", { name: /^Replay/ }).count()).toBe(0);
    expect(await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]))).not.toContain(
      "secret",
    );
    expect(statesOf(await toldAlike(id))).toEqual(["stored", "dead letter"]);
    expect((await toldAlike(position)).state).toBe(ReceiptState.DEAD_LETTER);
  });

  it("is replayed by whoever has a secret key, and by nobody else", async () => {
    const letter = stage.nameOf((await stage.end()) - 2);
    await using service = await startEventViews(stage, {
      ...{ statsToken: "token", secretApiKeys: ["secret", "given away"], publicApiKeys: ["given away"] },
    });
    await using without = await startEventViews(stage, { statsToken: "token" });
    const ask = (of: EventViewsStage, key: string, positions: string[]) =>
      of
        .client(DeadLetterService, key)
        .replay({ positions, dryRun: true })
        .then(
          ({ stored }) => stored,
          (error: ConnectError) => Code[error.code],
        );
    expect(
      await Promise.all([
        ask(service, "secret", [letter]),
        ...["token", "given away", "wrong", ""].map((key) => ask(service, key, [letter])),
        ask(without, "token", [letter]),
        ...[[], ["nonsense"], Array.from({ length: 101 }, () => letter), [stage.nameOf(0)]].map((positions) =>
          ask(service, "secret", positions),
        ),
      ]),
    ).toEqual([
      1,
      ...["Unauthenticated", "Unauthenticated", "Unauthenticated", "Unauthenticated"],
      "PermissionDenied",
      ...["InvalidArgument", "InvalidArgument", "InvalidArgument", "NotFound"],
    ]);
  });
});
