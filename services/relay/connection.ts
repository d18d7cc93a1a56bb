// One relay's connection, from its first byte to its end. All state is the connection's own: of several connections
// under one id each is polled for the collectors it has registered itself.
import type { Socket } from "node:net";
import { plainAddress } from "#lib/http/addresses.ts";
import { createLineSplitter, withoutBlanks } from "#lib/relay-protocol/lines.ts";
import { type Collectors, createCollectors, type RegisteredCollector } from "./collectors.ts";
import type { DropReason, RelayMetrics } from "./metrics.ts";
import type { PointSource } from "./points.ts";

export interface ConnectionOptions {
  beatSeconds: number;
  /** Longest silence of a relay without collectors; also the time for the identifying line to be complete. */
  readTimeoutMs: number;
  /** Longest silence of one that has registered a collector, and so is polled. */
  polledReadTimeoutMs: number;
  lineBytesMax: number;
  /** `add` and `remove` are answered `ok`. */
  answersAdd: boolean;
  /** Takes what follows the word `id`. */
  identify(text: string): Identity;
  takePoints(source: PointSource, text: string): void;
  metrics: Pick<RelayMetrics, "drops" | "tagsLeftOut" | "collectorsRefused" | "polls">;
  nowMs(): number;
  onIdentified(connection: RelayConnection): void;
  onClosed(connection: RelayConnection): void;
}

export type Identity = { id: string } | { refusal: string; reason: DropReason };

export interface RelayConnection {
  readonly id: string;
  readonly address: string;
  readonly connectedAtMs: number;
  /** When its last bytes came. */
  readonly lastSeenMs: number;
  collectors(): RegisteredCollector[];
  has(collector: string): boolean;
  /** Asks for the values of all collectors; nothing when there are none. */
  poll(): void;
  /** A relay that does not read what it is sent is dropped. */
  send(line: string): void;
}

/** Of an identifying line that is not complete: id, token and the words around them are shorter. */
const IDENTIFYING_BYTES_MAX = 8 * 1024;
/** Answers that wait for the relay to read; the kernel holds some more. */
const UNSENT_BYTES_MAX = 64 * 1024;

const HTTP_ANSWER = [
  "HTTP/1.1 400 Bad Request",
  "content-type: text/plain; charset=utf-8",
  "connection: close",
  "",
  "This port takes the lines of relays (millrace agent, pulse), not HTTP. The relays that are connected:",
  "",
  "    curl http://127.0.0.1:8082/relays     of millrace relay",
  "    curl http://127.0.0.1:8081/relays     of millrace start",
].join("\r\n");

/** Serves a socket that has just connected. */
export function serveConnection(socket: Socket, options: ConnectionOptions): void {
  new SocketConnection(socket, options).serve();
}

class SocketConnection implements RelayConnection {
  id = "";
  readonly address: string;
  readonly connectedAtMs: number;
  lastSeenMs: number;
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  /** Only reads count as life, which is why this is not the socket's own timeout. */
  #silence: NodeJS.Timeout;
  /** Undefined until it has identified itself. */
  #known: { source: PointSource; collectors: Collectors } | undefined;
  #unidentifiedBytes = 0;
  #isEnding = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.address = plainAddress(socket.remoteAddress ?? "");
    this.connectedAtMs = options.nowMs();
    this.lastSeenMs = this.connectedAtMs;
    this.#silence = this.#dropsAfter(options.readTimeoutMs);
  }

  serve(): void {
    const socket = this.#socket;
    const lines = createLineSplitter(this.#options.lineBytesMax, "any");
    const take = (line: string) => this.#take(line);
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      if (this.#known && !this.#isEnding) this.#silence.refresh();
      this.lastSeenMs = this.#options.nowMs();
      // One packet for the answers to all lines of a chunk.
      socket.cork();
      if (!lines.push(chunk, take) || this.#isTooMuchOf(chunk)) this.#drop("line_too_long");
      socket.uncork();
    });
    // Resets and half-closed writes belong to the peer.
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      clearTimeout(this.#silence);
      this.#isEnding = true;
      if (this.#known) this.#options.onClosed(this);
    });
  }

  /** Strangers hold less than relays: all of them together would else take a longest line each, without a token. */
  #isTooMuchOf({ length }: Buffer): boolean {
    if (this.#known || this.#isEnding) return false;
    this.#unidentifiedBytes += length;
    return this.#unidentifiedBytes > IDENTIFYING_BYTES_MAX;
  }

  collectors(): RegisteredCollector[] {
    return this.#known?.collectors.list() ?? [];
  }

  has(collector: string): boolean {
    return this.#known?.collectors.has(collector) ?? false;
  }

  poll(): void {
    const line = this.#known?.collectors.getLine;
    if (line === undefined) return;
    this.#options.metrics.polls.inc();
    this.send(line);
  }

  send(line: string): void {
    if (this.#socket.destroyed || this.#isEnding) return;
    this.#socket.write(`${line}\n`);
    if (this.#socket.writableLength > UNSENT_BYTES_MAX) this.#drop("not_reading");
  }

  #dropsAfter(silenceMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#drop(this.#known ? "silent" : "not_identified"), silenceMs);
  }

  #drop(reason: DropReason): void {
    if (!this.#isEnding) this.#options.metrics.drops.inc({ reason });
    this.#isEnding = true;
    this.#socket.destroy();
  }

  #refuse(answer: string, reason: DropReason): void {
    this.#options.metrics.drops.inc({ reason });
    this.#end(`${answer}\n`);
  }

  #end(lastWords = ""): void {
    this.#isEnding = true;
    this.#socket.write(lastWords);
    this.#socket.destroySoon();
  }

  #take(line: string): void {
    if (this.#isEnding) return;
    const known = this.#known;
    const [word, rest] = splitCommand(line);
    if (!known) this.#identify(word, rest);
    else if (word === "ping" && !withoutBlanks(rest ?? "")) this.send("pong");
    else if (word === "close") this.#end();
    else if (rest === undefined) return;
    else if (word === "got") this.#options.takePoints(known.source, withoutBlanks(rest));
    else if (word === "add") this.#add(known.collectors, withoutBlanks(rest));
    else if (word === "remove") {
      known.collectors.remove(withoutBlanks(rest));
      if (this.#options.answersAdd) this.send("ok");
    }
    // Anything else is ignored, as pulse does: answers, later commands, a second id.
  }

  #identify(word: string, rest: string | undefined): void {
    const { identify, metrics, beatSeconds, onIdentified } = this.#options;
    const identity = word === "id" && rest !== undefined ? identify(rest) : notIdentified(word, rest);
    if ("refusal" in identity) {
      this.#refuse(identity.refusal, identity.reason);
      return;
    }
    this.id = identity.id;
    const collectors = createCollectors(this.id, (count) => metrics.tagsLeftOut.inc(count));
    this.#known = { collectors, source: { relayId: this.id, key: Buffer.from(this.id), collectors } };
    this.send(`ok\nbeat ${beatSeconds}`);
    onIdentified(this);
  }

  #add(collectors: Collectors, text: string): void {
    if (!collectors.add(text)) {
      this.#options.metrics.collectorsRefused.inc();
      return;
    }
    // Relays of pulse's Go package may ping for the first time after 30 seconds whatever the beat, and never again after
    // one ping that failed: what they answer to polls is all that is heard of them.
    clearTimeout(this.#silence);
    this.#silence = this.#dropsAfter(this.#options.polledReadTimeoutMs);
    if (this.#options.answersAdd) this.send("ok");
  }
}

/** The rest is undefined without a space behind the word. */
function splitCommand(line: string): [word: string, rest: string | undefined] {
  const space = line.indexOf(" ");
  return space < 0 ? [line, undefined] : [line.slice(0, space), line.slice(space + 1)];
}

function notIdentified(word: string, rest: string | undefined): Identity {
  // A person's browser, or curl: what it can show.
  if (/ HTTP\/1\.\d$/.test(` ${rest}`)) return { refusal: HTTP_ANSWER, reason: "not_identified" };
  return { refusal: word === "id" ? "missing id" : "identify first with the 'id' command", reason: "not_identified" };
}
