// Calls of the server's RPCs as Connect JSON, below the address of the page: a proxy's prefix stays in front.

export type FailureKind = "gone" | "key" | "foreign" | "busy" | "failed";

/** What a call comes to instead of an answer. */
export class CallError extends Error {
  readonly kind: FailureKind;
  constructor(kind: FailureKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

export interface Config {
  gatewayUrl?: string;
  gatewayPort?: number;
  asksForKey: boolean;
  gatewayHasKeys: boolean;
  /** Whether dead letters can be replayed from here, by holders of a secret key. */
  canReplay: boolean;
  version: string;
  /** By how much the server's clock is ahead of this one, milliseconds. */
  skewMs: number;
}

const KEY = "millrace.key";
const PACKAGE = "millrace.stats.v1.";
/** Beyond the server's own limit of a query. */
const CALL_MS_MAX = 20_000;
const END_OF_STREAM = 2;
const SKEW_MS_MIN = 5_000;
const FRAME_BYTES_MAX = 64 * 1024 * 1024;

/** Of this tab alone; gone when it is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value: string) => (value === "" ? sessionStorage.removeItem(KEY) : sessionStorage.setItem(KEY, value)),
};

export function address(path: string): string {
  return new URL(path, document.baseURI.split(/[?#]/, 1)[0]).href;
}

function headers(type: string, given = key.get()): Record<string, string> {
  const credential: Record<string, string> = given === "" ? {} : { authorization: `Bearer ${utf8(given)}` };
  return { "content-type": type, "connect-protocol-version": "1", ...credential };
}

/** A header takes characters up to 255 only: each stands for a byte. */
function utf8(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

/**
 * Unary. `T` is the answer as protobuf's JSON has it. Rejects with CallError, or with the signal's reason. Another key than
 * the tab's is used for this call only.
 */
export async function call<T>(method: string, body: object, signal: AbortSignal, ownKey?: string): Promise<T> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(CALL_MS_MAX)]);
  let answer: Response;
  let text: string;
  try {
    const init = {
      method: "POST",
      headers: headers("application/json", ownKey),
      body: JSON.stringify(body),
      signal: limited,
    };
    answer = await fetch(address(PACKAGE + method), init);
    text = await answer.text();
  } catch (error) {
    signal.throwIfAborted();
    const isLate = error instanceof DOMException && error.name === "TimeoutError";
    throw new CallError("gone", isLate ? "The server takes too long to answer." : "The server does not answer.");
  }
  if (answer.ok) return JSON.parse(text) as T;
  throw failureOf(answer.status, text);
}

function failureOf(status: number, text: string): CallError {
  let code = "";
  let message = "";
  try {
    ({ code = "", message = "" } = JSON.parse(text) as { code?: string; message?: string });
  } catch {
    // Somebody else's answer, as a proxy's.
    message = `HTTP ${status}`;
  }
  return errorOf(code, message, status);
}

function errorOf(code: string, message: string, status = 0): CallError {
  if (code === "unauthenticated" || status === 401) return new CallError("key", message);
  if (code === "permission_denied" || status === 403) return new CallError("foreign", message);
  if (code === "resource_exhausted" || code === "unavailable") return new CallError("busy", message);
  if (code === "" && [502, 503, 504].includes(status)) return new CallError("gone", "The server does not answer.");
  if (code === "unimplemented" || status === 404) return new CallError("failed", "This server does not have this yet.");
  return new CallError("failed", message || code);
}

/** Server-streaming: calls `onMessage` until the stream ends. Rejects as `call` does, also when the server ends it. */
export async function stream<T>(
  method: string,
  body: object,
  signal: AbortSignal,
  onMessage: (message: T) => void,
): Promise<void> {
  let answer: Response;
  try {
    const init = { method: "POST", headers: headers("application/connect+json"), body: frame(body), signal };
    answer = await fetch(address(PACKAGE + method), init);
  } catch {
    signal.throwIfAborted();
    throw new CallError("gone", "The server does not answer.");
  }
  if (!answer.ok || !answer.body) throw failureOf(answer.status, await answer.text());
  const reader = answer.body.getReader();
  let left = new Uint8Array(0);
  while (true) {
    const { done, value } = await reader.read().catch((): { done: true; value: undefined } => {
      signal.throwIfAborted();
      return { done: true, value: undefined };
    });
    if (done) throw new CallError("gone", "The stream has ended.");
    left = left.length === 0 ? value : joined(left, value);
    left = takeFrames(left, onMessage);
  }
}

function takeFrames<T>(buffer: Uint8Array<ArrayBuffer>, onMessage: (message: T) => void): Uint8Array<ArrayBuffer> {
  let at = 0;
  while (buffer.length - at >= 5) {
    const length = new DataView(buffer.buffer, buffer.byteOffset + at + 1, 4).getUint32(0);
    if (length > FRAME_BYTES_MAX) throw new CallError("failed", "The server sent something that is not a stream.");
    if (buffer.length - at - 5 < length) break;
    const message = JSON.parse(new TextDecoder().decode(buffer.subarray(at + 5, at + 5 + length))) as T;
    const isEnd = ((buffer[at] ?? 0) & END_OF_STREAM) !== 0;
    at += 5 + length;
    if (isEnd) throw endOf(message as { error?: { code?: string; message?: string } });
    onMessage(message);
  }
  return buffer.subarray(at);
}

function endOf({ error }: { error?: { code?: string; message?: string } }): CallError {
  return error ? errorOf(error.code ?? "", error.message ?? "") : new CallError("gone", "The stream has ended.");
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function frame(body: object): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(body));
  const bytes = new Uint8Array(5 + text.length);
  new DataView(bytes.buffer).setUint32(1, text.length);
  bytes.set(text, 5);
  return bytes;
}

export async function readConfig(): Promise<Config> {
  const answer = await fetch(address("console/config.json"));
  const serverMs = Date.parse(answer.headers.get("date") ?? "");
  // The header has whole seconds, and the answer took a while.
  const skewMs = Math.abs(serverMs - Date.now()) > SKEW_MS_MIN ? serverMs - Date.now() : 0;
  return { ...((await answer.json()) as Config), skewMs };
}

/** Resolves when the server answers again. Rejects with the signal's reason. */
export async function untilBack(signal: AbortSignal): Promise<void> {
  while (true) {
    await wait(2_000, signal);
    const isBack = await fetch(address("healthz"), { signal }).then(
      ({ ok }) => ok,
      () => false,
    );
    signal.throwIfAborted();
    if (isBack) return;
  }
}

/** Rejects with the signal's reason. */
export function wait(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (signal.aborted) reject(signal.reason);
  const end = () => {
    clearTimeout(timer);
    reject(signal.reason);
  };
  const timer = setTimeout(() => {
    signal.removeEventListener("abort", end);
    resolve();
  }, ms);
  signal.addEventListener("abort", end, { once: true });
  return promise;
}
