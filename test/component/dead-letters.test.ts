// `millrace dead-letters` as its operator meets it, against a log, a gateway, a consumer and ClickHouse.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeReplayRequest, REPLAY_PATH } from "#lib/events/replay-request.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRow } from "#lib/ledger/outcome-rows.ts";
import { createLetters } from "#lib/letters/letters.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, idOf, poisonRecord } from "../kit/consumer.ts";
import { startDeadLetterStage, valuelessRecord } from "../kit/dead-letters.ts";
import { atMost } from "../kit/patience.ts";
import { pointRecord } from "../kit/points.ts";
import { runMillrace } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse?.[Symbol.asyncDispose]());

const events = (count: number) => Array.from({ length: count }, () => eventRecord());

it("a poison record among good ones is listed, explained, corrected, and a row once, with its origin", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_path");
  stage.startConsumer();
  const bad = valuelessRecord({
    id: idOf(1),
    event: "bought",
    distinctId: "d7",
    propertiesJson: '{"big":12345678901234567890}',
  });
  await stage.append(...events(3), bad, poisonRecord, ...events(3));
  const name = stage.nameOf(3);

  const listed = await stage.run("ls");
  expect(listed.code, listed.stderr).toBe(0);
  expect(listed.stdout).toMatch(/^undecodable +2 /m);
  const lines = listed.stdout.split("\n").filter((line) => line.startsWith(stage.epoch.slice(0, 8)));
  expect(lines.map((line) => line.split(" ", 1)[0])).toEqual([stage.nameOf(4), name]);
  expect(lines[1]).toContain('undecodable  the value is NaN  event "bought"');
  expect(JSON.parse((await stage.run("ls", "--json")).stdout)).toMatchObject({
    classes: [{ class: "undecodable", count: 2 }],
    letters: [{ position: stage.nameOf(4) }, { position: name, event: "bought", error: "the value is NaN" }],
  });

  const shown = await stage.run("show", name);
  expect(shown.stdout).toContain(`"id": "${idOf(1)}"`);
  expect(shown.stdout).toContain('"value": "NaN"');
  expect(shown.stdout).toContain('"big": 12345678901234567890\n');
  expect(shown.stdout).toContain("not replayed");
  const dumped = await stage.run("show", stage.nameOf(4));
  expect(dumped.stdout).toContain("00000000  0a ff 01 02 03");
  expect(dumped.stdout).toContain("cannot be replayed");

  const end = await stage.end();
  const unchanged = await stage.run("replay");
  expect(unchanged.code).toBe(1);
  expect(unchanged.stderr).toContain(`not replayable: ${name}: value: must be a finite number, not NaN`);
  expect(unchanged.stderr).toContain(`not replayable: ${stage.nameOf(4)}: value: is not an EventRecord message`);
  expect(unchanged.stdout).toContain("replayed 0, skipped 0 as stored, 2 not replayable, 0 failed");
  const fix = [name, "--set", "value=1.5", "--set", "properties.fixed=true", "--set=time=2026-03-27T12:00:00Z"];
  const dry = await stage.run("replay", "--dry-run", ...fix);
  expect([dry.code, dry.stdout]).toEqual([
    0,
    `would replay ${name}: event "bought", id ${idOf(1)}\nwould replay 1, skipped 0 as stored, 0 not replayable, 0 failed\n`,
  ]);
  expect(await stage.end()).toBe(end);

  const replayed = await stage.run("replay", ...fix);
  // How far it is, it says when that takes long.
  expect([replayed.code, replayed.stderr.replace(/^\d+ of \d+ letters\n/gm, "")]).toEqual([0, ""]);
  expect(replayed.stdout).toContain(`replayed ${name} as millrace.events:0:${end}\n`);
  await stage.drained();
  expect(await stage.recordAt(end)).toMatchObject({
    checkStored: true,
    idFromCaller: true,
    origin: { logEpoch: stage.epoch, topic: "millrace.events", partition: 0, offset: 3n },
  });
  expect(
    await stage.query(
      "SELECT toString(uuid) AS id, event, distinct_id, value, toString(timestamp) AS time, properties FROM events WHERE event = 'bought'",
    ),
  ).toEqual([
    {
      id: idOf(1),
      event: "bought",
      distinct_id: "d7",
      value: 1.5,
      time: "2026-03-27 12:00:00.000000",
      properties: '{"big":12345678901234567890,"fixed":true}',
    },
  ]);

  const again = await runMillrace(["dead-letters", "replay", ...fix], stage.env);
  expect([again.code, again.stdout]).toEqual([
    0,
    `skipped ${name}: already a row at ${stage.nameOf(end)}\nreplayed 0, skipped 1 as stored, 0 not replayable, 0 failed\n`,
  ]);
  expect(await stage.end()).toBe(end + 1);
  expect((await stage.run("ls")).stdout).toContain(`now a row at ${stage.nameOf(end)}`);
  expect((await stage.run("show", name)).stdout).toMatch(new RegExp(`replayed: ${stage.nameOf(end)} at .*, now a row`));
  expect((await runMillrace(["verify", "--wait", "30s"], stage.env)).code).toBe(0);
});

it("a letter of a point is shown as one, goes through the gateway onto its own topic, and is a row once", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_points");
  stage.startConsumer();
  const [tags, bootId] = [{ host: "h" }, Buffer.alloc(16, 7)];
  const bad = pointRecord({ metric: "cpu", value: Number.NaN, tags, bootId, sequence: 5 });
  await stage.log.append(POINTS_TOPIC, [pointRecord(), bad, poisonRecord]);
  await until(async () => (await stage.query("SELECT 1 FROM dead_letters")).length === 2, "both are letters");
  const nameOf = (offset: number) => `${stage.epoch.slice(0, 8)}:${POINTS_TOPIC}:0:${offset}`;
  const listed = await stage.run("ls", "--topic", POINTS_TOPIC);
  expect(listed.stdout).toContain('undecodable  the value is NaN  metric "cpu"');
  expect(JSON.parse((await stage.run("ls", "--json")).stdout)).toMatchObject({
    letters: expect.arrayContaining([expect.objectContaining({ position: nameOf(1), metric: "cpu" })]),
  });
  const shown = JSON.parse((await stage.run("show", nameOf(1), "--json")).stdout);
  expect(shown.record).toMatchObject({ metric: "cpu", value: "NaN", tags, relay_id: "r", collector: "c" });
  expect(shown.record.id).toBe("07070707-0707-0707-0707-070707070702");
  expect((await stage.run("show", nameOf(2))).stdout).toContain("cannot be replayed");

  const unchanged = await stage.run("replay");
  expect(unchanged.code).toBe(1);
  expect(unchanged.stderr).toContain(`not replayable: ${nameOf(1)}: could not be stored: the value is NaN`);
  expect(unchanged.stderr).toContain(`not replayable: ${nameOf(2)}: value: is not a PointRecord message`);
  const foreign = await stage.run("replay", nameOf(1), "--set", "value=1", "--set", "source=x");
  expect(foreign.stderr).toContain("source: is not a field of a point; value and time can be set");
  const events = await stage.end();
  const replayed = await stage.run("replay", nameOf(1), "--set", "value=1.5");
  expect([replayed.code, replayed.stderr]).toEqual([0, ""]);
  expect(replayed.stdout).toContain(`replayed ${nameOf(1)} as ${POINTS_TOPIC}:0:3\n`);
  expect(await stage.end()).toBe(events);
  const sql = "SELECT toString(uuid) AS id, value, tags FROM points WHERE metric = 'cpu' AND log_offset = 3";
  await until(async () => (await stage.query(sql)).length > 0, "it is a row");
  expect(await stage.query(sql)).toEqual([{ id: shown.record.id, value: 1.5, tags }]);
  expect((await stage.run("replay", nameOf(1), "--set", "value=2")).stdout).toContain(
    `skipped ${nameOf(1)}: already a row at ${nameOf(3)}\nreplayed 0, skipped 1 as stored`,
  );
  expect((await stage.run("show", nameOf(1))).stdout).toMatch(new RegExp(`replayed: ${nameOf(3)} at .*, now a row`));
});

it("a replay that dies again is listed as a replay of the first, and the event is one row in the end", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_again");
  await stage.warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT refused CHECK event != 'refused'");
  stage.startConsumer();
  await stage.append(...events(2), eventRecord({ event: "refused" }), ...events(2));
  const [first, second] = [stage.nameOf(2), stage.nameOf(5)];
  expect((await stage.run("replay")).code).toBe(0);
  await stage.drained();
  expect((await stage.run("ls")).stdout).toMatch(new RegExp(`^${second}  .*  replay of ${first}$`, "m"));
  expect((await stage.run("show", first)).stdout).toMatch(
    new RegExp(`replayed: ${second} at .*, a dead letter again: .*refused`),
  );

  const fixed = await stage.run("replay", second, "--set", "event=taken");
  expect(fixed.code, fixed.stderr).toBe(0);
  await stage.drained();
  expect((await stage.recordAt(6)).origin).toMatchObject({ offset: 2n });
  const rest = await stage.run("replay", "--set", "event=taken too");
  expect(rest.stdout).toContain("replayed 0, skipped 2 as stored");
  expect(await stage.query("SELECT event FROM events WHERE log_offset > 4")).toEqual([{ event: "taken" }]);
  const { stdout } = await stage.run("show", first);
  expect(stdout).toMatch(new RegExp(`dead letter again.*\n.*${stage.nameOf(6)} at .*, now a row`));
});

it("a replay of a point that dies again is listed as a replay of the first, and the point is one row in the end", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_points_again");
  const constraint = (change: string) => stage.warehouse.command(`ALTER TABLE points ${change}`);
  await constraint("ADD CONSTRAINT refused CHECK metric != 'refused'");
  stage.startConsumer();
  const nameOf = (offset: number) => `${stage.epoch.slice(0, 8)}:${POINTS_TOPIC}:0:${offset}`;
  const letters = async (count: number) =>
    until(async () => (await stage.query("SELECT 1 FROM log_outcomes")).length === count, `${count} are letters`);
  await stage.log.append(POINTS_TOPIC, [pointRecord(), pointRecord({ metric: "refused" }), pointRecord()]);
  await letters(1);
  expect((await stage.run("replay")).code).toBe(0);
  await letters(2);
  const [first, second] = [nameOf(1), nameOf(3)];
  expect((await stage.run("ls")).stdout).toMatch(new RegExp(`^${second}  .*  replay of ${first}$`, "m"));
  await constraint("DROP CONSTRAINT refused");
  expect((await stage.run("replay", second)).code).toBe(0);
  const row = "SELECT 1 FROM points WHERE metric = 'refused'";
  await until(async () => (await stage.query(row)).length > 0, "it is a row");
  expect((await stage.run("replay")).stdout).toContain("replayed 0, skipped 2 as stored");
  const { stdout } = await stage.run("show", first);
  expect(stdout).toMatch(new RegExp(`${second} at .*, a dead letter again: .*\n.*${nameOf(4)} at .*, now a row`));
});

it("letters are chosen by class, time, partition, position and number; many ask to be confirmed", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_chosen");
  stage.startConsumer();
  await stage.append(...Array.from({ length: 60 }, () => valuelessRecord()));
  const between = new Date(Date.now() + 1).toISOString();
  await new Promise((resolve) => setTimeout(resolve, 5));
  await stage.append(...Array.from({ length: 60 }, () => valuelessRecord()));
  await stage.warehouse.command(
    "ALTER TABLE dead_letters UPDATE error_class = 'other' WHERE log_offset % 2 = 1 SETTINGS mutations_sync = 2",
  );
  const count = async (...args: string[]) => {
    const { stdout, stderr } = await stage.run("replay", "--dry-run", "--set", "value=1", ...args);
    return Number(/^would replay (\d+),/m.exec(stdout)?.[1] ?? stderr);
  };
  expect(await count()).toBe(120);
  expect(await count("--class", "other")).toBe(60);
  expect(await count("--since", between)).toBe(60);
  expect(await count("--until", between, "--class", "undecodable")).toBe(30);
  expect(await count("--since", "1h", "--limit", "7")).toBe(7);
  expect(await count("--partition", "1")).toBe(0);
  expect(await count(stage.nameOf(8), stage.nameOf(9), "--class", "other")).toBe(1);

  const unconfirmed = await stage.run("replay", "--set", "value=1");
  expect([unconfirmed.code, unconfirmed.stdout]).toEqual([2, ""]);
  expect(unconfirmed.stderr).toContain("120 letters match");
  expect(await stage.end()).toBe(120);
  // The limit counts what is appended, so that the same command again takes the next ones.
  for (const _ of [1, 2]) {
    expect((await stage.run("replay", "--set", "value=1", "--limit", "10", "--class", "other")).code).toBe(0);
    await stage.drained();
  }
  expect(await stage.query("SELECT toString(count()) AS n FROM events")).toEqual([{ n: "20" }]);
  expect((await stage.run("replay", "--set", "value=1", "--yes")).stdout).toContain(
    "replayed 100, skipped 20 as stored, 0 not replayable, 0 failed",
  );
  await stage.drained();
  expect(await stage.query("SELECT toString(uniqExact(uuid)) AS ids, toString(count()) AS n FROM events")).toEqual([
    { ids: "120", n: "120" },
  ]);
});

it("nothing that a caller sent reaches the terminal as more than text", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_hostile");
  stage.startConsumer();
  const hostile = "a\u001b[2J\u001b]0;title\u0007\r\nb\u009b31m\u202e\"'`\u0000\u2028end";
  await stage.append(
    valuelessRecord({
      event: hostile,
      distinctId: hostile,
      key: hostile,
      propertiesJson: JSON.stringify({ [hostile]: hostile }),
    }),
    { key: Buffer.from(hostile), value: Buffer.from(`\u0007${hostile}`) },
    valuelessRecord({ propertiesJson: `{"a":${hostile}}` }),
  );
  const outputs = [
    await stage.run("ls"),
    await stage.run("ls", "--json"),
    await stage.run("show", stage.nameOf(0)),
    await stage.run("show", stage.nameOf(1)),
    await stage.run("show", stage.nameOf(2), "--json"),
    await stage.run("replay", "--set", "value=1", "--dry-run"),
    await stage.run("replay", "--set", `${hostile}=1`),
    await stage.run("show", hostile),
  ];
  for (const { stdout, stderr } of outputs) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there.
    expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2028\u2029]/);
  }
  const [lines, json, shown] = outputs;
  expect(lines?.stdout.split("\n").filter((line) => line.startsWith(stage.epoch.slice(0, 8)))).toHaveLength(3);
  expect(JSON.parse(json?.stdout ?? "").letters[2]).toMatchObject({ event: hostile });
  expect(shown?.stdout).toContain("\\u001b[2J");
  await stage.run("replay", "--set", "value=1");
  await stage.drained();
  expect(await stage.query("SELECT event, distinct_id, properties FROM events")).toEqual([
    { event: hostile, distinct_id: hostile, properties: JSON.stringify({ [hostile]: hostile }) },
  ]);
});

it("of 10,000 letters and some very large ones ls shows the newest at once, and reads all in bounded pages", async () => {
  await using stage = await startDeadLetterStage(clickhouse, "letters_many");
  const origin = { epoch: stage.epoch, topic: "millrace.events", partition: 0 };
  const small = eventRecord({ propertiesJson: JSON.stringify({ padding: "x".repeat(200) }) });
  const large = eventRecord({ propertiesJson: JSON.stringify({ padding: "x".repeat(800_000) }) });
  const store = async (record: typeof small, from: number, count: number) => {
    const rows = Array.from({ length: count }, (_, n) =>
      deadLetterRow(origin, { ...record, offset: from + n, appendTimeMs: 1_790_000_000_000 + from + n }, "made", "e"),
    );
    const columns = DEAD_LETTER_COLUMNS;
    await stage.warehouse.insert({ table: "dead_letters", columns, rows: Buffer.concat(rows), token: `many ${from}` });
  };
  await store(small, 0, 10_000);
  for (let n = 0; n < 4; n += 1) await store(large, 10_000 + 7 * n, 7);

  const begun = performance.now();
  const { stdout } = await stage.run("ls", "--class", "made");
  // Far less on an idle machine.
  expect(performance.now() - begun).toBeLessThan(atMost(5000));
  expect(stdout).toContain("50 of 10028 dead letters shown; --limit shows more");
  expect(stdout.split("\n").find((line) => line.startsWith(stage.nameOf(10_027)))).toContain('event "seen"');

  let next = 0;
  let largest = 0;
  for await (const page of createLetters(stage.warehouse).read({}, "oldest")) {
    expect(page.map(({ offset }) => offset)).toEqual(page.map((_, index) => next + index));
    next += page.length;
    largest = Math.max(
      largest,
      page.reduce((sum, { value }) => sum + value.length, 0),
    );
  }
  expect([next, largest < 6_000_000]).toEqual([10_028, true]);
});

describe("what cannot be meant", () => {
  it("is refused in words and changes nothing", async () => {
    await using stage = await startDeadLetterStage(clickhouse, "letters_refused");
    stage.startConsumer();
    await stage.append(valuelessRecord());
    const cases: [code: number, expected: string, ...args: string[]][] = [
      [2, "unknown field. Did you mean event?", "replay", "--set", "evnt=x"],
      [2, "--set id: cannot be changed", "replay", "--set", "id=x"],
      [2, "--set api_key: cannot be changed", "replay", "--set", "api_key=x"],
      [2, "expected JSON", "replay", "--set", "properties.a=x"],
      [2, "is not a position", "show", "nowhere"],
      [2, "--dry-run is not for show", "show", stage.nameOf(0), "--dry-run"],
      [1, `no dead letter at ${stage.nameOf(1)}`, "show", stage.nameOf(1)],
      [1, "no dead letter at ffffffff:millrace.events:0:0", "replay", "ffffffff:millrace.events:0:0"],
      [1, "event: must not be blank", "replay", "--set", "value=1", "--set", "event= "],
      [1, "ClickHouse at http://127.0.0.1:1", "ls", "--clickhouse-url", "http://127.0.0.1:1"],
    ];
    for (const [code, expected, ...args] of cases) {
      const answer = await stage.run(...args);
      expect({ code: answer.code, stderr: answer.stderr }, args.join(" ")).toEqual({
        code,
        stderr: expect.stringContaining(expected),
      });
    }
    expect(await stage.end()).toBe(1);
  });

  it("the gateway takes no replay without a secret key, from a web page, or of something that is not a dead letter", async () => {
    const keys = { publicApiKeys: ["public"], secretApiKeys: ["secret"] };
    await using stage = await startDeadLetterStage(clickhouse, "letters_keys", keys);
    stage.startConsumer();
    await stage.append(valuelessRecord());
    const post = async (headers: Record<string, string>, body: string) => {
      const init = { method: "POST", headers: { "content-type": "application/json", ...headers }, body };
      const response = await fetch(`${stage.gatewayUrl}${REPLAY_PATH}`, init);
      await response.text();
      return response.status;
    };
    const secret = { authorization: "Bearer secret" };
    const noReplay = encodeReplayRequest([eventRecord()], EVENTS_TOPIC);
    expect(await post({}, noReplay)).toBe(401);
    expect(await post({ authorization: "Bearer public" }, noReplay)).toBe(403);
    expect(await post({ ...secret, origin: "https://example.com" }, noReplay)).toBe(403);
    expect(await post({ ...secret, "content-type": "text/plain" }, noReplay)).toBe(415);
    expect(await post(secret, noReplay)).toBe(400);
    expect(await post(secret, encodeReplayRequest([poisonRecord], EVENTS_TOPIC))).toBe(400);
    for (const record of [poisonRecord, eventRecord({ checkStored: true }), pointRecord()]) {
      expect(await post(secret, encodeReplayRequest([record], POINTS_TOPIC))).toBe(400);
    }
    expect(await post(secret, encodeReplayRequest([], "other"))).toBe(400);
    expect(await post(secret, '{"topic":1,"records":[]}')).toBe(400);
    expect(await post(secret, '{"records":[{}]}')).toBe(400);
    expect(await stage.end()).toBe(1);

    const keyless = await stage.run("replay", "--set", "value=1");
    expect(keyless.code).toBe(1);
    expect(keyless.stderr).toContain("MILLRACE_API_KEY");
    expect((await stage.run("replay", "--set", "value=1", "--millrace-api-key", "secret")).code).toBe(0);
    await stage.drained();
    expect(await stage.query("SELECT toString(count()) AS n FROM events")).toEqual([{ n: "1" }]);
  });
});
