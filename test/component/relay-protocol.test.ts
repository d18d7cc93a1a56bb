// The relay service's side of pulse's line protocol (section 3 of the contract), byte for byte over TCP.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Peer, startTestRelay, type TestRelay } from "../kit/relay.ts";

let relay: TestRelay;
let codeRelay: TestRelay;
let pollingRelay: TestRelay;
beforeAll(async () => {
  [relay, codeRelay, pollingRelay] = await Promise.all([
    startTestRelay(),
    startTestRelay({ pulseCompat: "code", beatInterval: 1_000 }),
    startTestRelay({ pollInterval: 100 }),
  ]);
});
afterAll(async () => {
  await Promise.all([relay, codeRelay, pollingRelay].map((each) => each[Symbol.asyncDispose]()));
});

/** What goes over the wire in turn: "> sent by the relay", "< answered", "closed" by the server. */
type Transcript = readonly string[];

async function replay(peer: Peer, transcript: Transcript): Promise<void> {
  for (const step of transcript) {
    if (step === "closed") return peer.closes();
    if (step.startsWith("> ")) peer.send(step.slice(2));
    else await peer.receives(step.slice(2));
  }
  // Nothing else was sent: the answer to a ping comes next.
  peer.send("ping\n");
  await peer.receives("pong\n");
}

const SAME_IN_BOTH: [claim: string, transcript: Transcript][] = [
  ["a ping is answered pong, each one", ["> ping\nping\n", "< pong\npong\n"]],
  ["close ends the connection without a word", ["> close\n", "closed"]],
  ["close with an argument ends it too", ["> close now\n", "closed"]],
  ["what follows close in the same packet is not answered", ["> close\nping\n", "closed"]],
  ["got has no answer", ["> got cpu-cpu:1.0000\n"]],
  ["an ok is ignored", ["> ok\nok add\n"]],
  ["bare words are ignored", ["> add\nremove\ngot\nget\nhello\n\n"]],
  ["unknown commands are ignored", ["> hello world\nping 1\nPING\npong\nflush now\n"]],
  ["a second id is ignored", ["> id other\nid\n"]],
  ["lines may end with CR LF, and with blanks before it", ["> ping\r\nping \t \r\nping\r\r\n", "< pong\npong\npong\n"]],
  ["a CR within a line is no end of it, where the first line ended with LF", ["> ping\rping\n"]],
  ["a line may come in pieces", ["> pi", "> n", "> g\n", "< pong\n"]],
];

describe.each([
  ["readme", () => relay, "30"],
  ["code", () => codeRelay, "1"],
] as const)("under PULSE_COMPAT=%s", (_compat, served, beat) => {
  it.each(SAME_IN_BOTH)("%s", async (_claim, transcript) => {
    await using peer = await served().connect();
    await replay(peer, ["> id host a\n", `< ok\nbeat ${beat}\n`, ...transcript]);
  });

  it.each([
    ["any other command first", ["> add cpu:\n", "< identify first with the 'id' command\n", "closed"]],
    ["a ping first", ["> ping\n", "< identify first with the 'id' command\n", "closed"]],
    ["an empty line first", ["> \n", "< identify first with the 'id' command\n", "closed"]],
    ["a longer word that begins with id", ["> idx a\n", "< identify first with the 'id' command\n", "closed"]],
    ["id in capitals", ["> ID a\n", "< identify first with the 'id' command\n", "closed"]],
    ["bytes that are no text", ["> \u0000\u0001\u0016\u0003\n", "< identify first with the 'id' command\n", "closed"]],
    ["id with nothing behind it", ["> id\n", "< missing id\n", "closed"]],
    ["an id that does not fit a record", [`> id ${"x".repeat(1_025)}\n`, "< id too long\n", "closed"]],
    ["an empty id is an id", ["> id \n", `< ok\nbeat ${beat}\n`]],
    ["an id with spaces and colons is one", ["> id a b:c,d-e\n", `< ok\nbeat ${beat}\n`]],
    ["a line that ends with CR LF", ["> id host\r\n", `< ok\nbeat ${beat}\n`, "> ping\r\n", "< pong\n"]],
    ["a CR LF in two packets", ["> id host\r", `< ok\nbeat ${beat}\n`, "> \nping\r\n", "< pong\n"]],
    [
      "a line that ends with CR: so do the others",
      ["> id host\r", `< ok\nbeat ${beat}\n`, "> ping\rping\r", "< pong\npong\n"],
    ],
    ["an id with a line end of Unicode", ["> id host\u0085\n", "< id has a control character\n", "closed"]],
    ["a packet with everything in it", ["> id a\nping\n", `< ok\nbeat ${beat}\npong\n`]],
  ] satisfies [string, Transcript][])("identification: %s", async (_claim, transcript) => {
    await using peer = await served().connect();
    await replay(peer, transcript);
  });
});

it("identification: an id that is not UTF-8 is refused", async () => {
  await using peer = await relay.connect();
  peer.send(Buffer.from("id h\xffst\n", "latin1"));
  await peer.receives("id is not UTF-8\n");
  await peer.closes();
});

it("identification: a browser gets an answer that it can show", async () => {
  const answer = await fetch(`http://127.0.0.1:${relay.port}/`);
  expect(answer.status).toBe(400);
  expect(await answer.text()).toContain("curl http://127.0.0.1:8082/relays");
});

describe("add and remove", () => {
  const LINES = "> add a\nadd b:\nadd c:t1,k:v:w,\nremove a\nremove unknown\n";

  it("are answered ok by default, each one", async () => {
    await using peer = await relay.connect();
    await replay(peer, ["> id a\n", "< ok\nbeat 30\n", LINES, "< ok\nok\nok\nok\nok\n"]);
  });

  it("are silent under PULSE_COMPAT=code", async () => {
    await using peer = await codeRelay.connect();
    await replay(peer, ["> id a\n", "< ok\nbeat 1\n", LINES]);
  });

  it("without a name, or with one beyond the limits, registers nothing and is not answered", async () => {
    await using peer = await pollingRelay.connect();
    peer.send(`id a\nadd :t\nadd ${"n".repeat(201)}\nadd good:\n`);
    await peer.receives("ok\nbeat 30\nok\nget good\n");
  });
});

describe("polls", () => {
  it("name all collectors of the connection, again and again, and follow add and remove", async () => {
    await using peer = await pollingRelay.connect();
    peer.send("id poll\nadd cpu:a\nadd ram:\n");
    await peer.receives("ok\nbeat 30\nok\nok\nget cpu,ram\nget cpu,ram\n");
    peer.send("remove cpu\n");
    let line = await peer.line();
    while (line === "get cpu,ram") line = await peer.line();
    expect(line).toBe("ok");
    await peer.receives("get ram\nget ram\n");
    peer.send("add net:\n");
    line = await peer.line();
    while (line === "get ram") line = await peer.line();
    expect(line).toBe("ok");
    await peer.receives("get ram,net\nget ram,net\n");
  });

  it("go to nobody without collectors", async () => {
    await using peer = await pollingRelay.connect();
    await using other = await pollingRelay.connect();
    peer.send("id none\n");
    other.send("id some\nadd cpu:\n");
    await other.receives("ok\nbeat 30\nok\nget cpu\nget cpu\nget cpu\n");
    await replay(peer, ["< ok\nbeat 30\n"]);
  });

  it("ask each of two connections of one id for its own collectors, also after the other has gone", async () => {
    await using older = await pollingRelay.connect();
    older.send("id twin\nadd old:\n");
    await older.receives("ok\nbeat 30\nok\n");
    await using newer = await pollingRelay.connect();
    newer.send("id twin\nadd new:\n");
    await newer.receives("ok\nbeat 30\nok\nget new\n");
    await older.receives("get old\n");
    older.send("close\n");
    await newer.receives("get new\nget new\nget new\n");
  });
});

it.concurrent("a relay that sends nothing for two beats is dropped, one that sends any bytes is not", async () => {
  await using silent = await codeRelay.connect();
  await using alive = await codeRelay.connect();
  silent.send("id silent\n");
  alive.send("id alive\n");
  await silent.receives("ok\nbeat 1\n");
  await alive.receives("ok\nbeat 1\n");
  const trickle = setInterval(() => alive.send("x"), 300);
  const begun = performance.now();
  await silent.closes();
  expect(performance.now() - begun).toBeGreaterThan(1_900);
  clearInterval(trickle);
  alive.send("\nping\n");
  await alive.receives("pong\n");
  expect(await codeRelay.metric("millrace_relay_connections_dropped_total", { reason: "silent" })).toBe(1);
});

it.concurrent("a relay that answers polls and never pings stays, also where polls are more than two beats apart", async () => {
  await using sparse = await startTestRelay({ pulseCompat: "code", beatInterval: 1_000, pollInterval: 2_500 });
  await using answering = await sparse.connect();
  await using mute = await sparse.connect();
  answering.send("id answering\nadd ram:\n");
  mute.send("id mute\nadd ram:\n");
  await answering.receives("ok\nbeat 1\n");
  for (let poll = 0; poll < 2; poll += 1) {
    await answering.receives("get ram\n");
    answering.send("got ram-ram:25.0000\n");
  }
  // Polled as well, and dropped by then.
  await mute.receives("ok\nbeat 1\nget ram\n");
  await mute.closes();
  expect(await sparse.metric("millrace_relay_connections_dropped_total", { reason: "silent" })).toBe(1);
  expect(await sparse.points(2)).toHaveLength(2);
});

it.concurrent("a peer that has not identified itself within two beats is dropped, whatever it trickles", async () => {
  await using peer = await codeRelay.connect();
  const trickle = setInterval(() => peer.send("x"), 300);
  await peer.closes();
  clearInterval(trickle);
});
