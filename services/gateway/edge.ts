// The way in, the same for every wire: path → caller → room → body → rate → facts. A wire asks for an entry, reads its body
// through it, and says how many events it has found; whatever is refused is thrown as `Refused` and answered once.
import type { RequestFacts } from "#lib/events/validate.ts";
import { type BodyPatience, BodyStalledError, BodyTooLargeError, declaredLength, readBody } from "#lib/http/body.ts";
import { type Origins, originOf } from "#lib/http/cors.ts";
import { normalEncoding, UndecodableError } from "#lib/http/encodings.ts";
import { isForeignName, isLoopback } from "#lib/http/loopback.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Admission, Holder, Lease } from "./admission.ts";
import type { Grant, Keys } from "./auth.ts";
import { assertBodyForm, type BodyForm, unpacked } from "./body-form.ts";
import { type KeyPlaces, keysOf } from "./caller-keys.ts";
import type { RateLimit } from "./rate-limit.ts";
import { refused } from "./refusals.ts";
import type { CallerOf } from "./trusted-proxies.ts";
import { BEGINNING_BYTES, bodyBytesMax, keyAtStart } from "./unknown-sender.ts";

export interface EdgeOptions {
  keys: Keys;
  origins: Origins;
  rateLimit: RateLimit;
  /** Of events with `check_stored` from callers who are not trusted: each is a question to ClickHouse. */
  lookupLimit: RateLimit;
  admission: Admission;
  callerOf: CallerOf;
  patience: BodyPatience;
  maxBodyBytes: number;
  /** Address listened on: on loopback, without keys, only this machine may call. */
  host: string;
  nowMs: () => number;
}

export interface EntryRules {
  /** As metrics and limits call the wire. */
  dialect: string;
  /**
   * `key`: one of ours in a header. `body key`: that, or one in the body, or a listed Origin; it is for the wire to call
   * `identify`. `secret key`: one of those, and no web page.
   */
  access: "key" | "body key" | "secret key";
  /** For `body key`: asked for also where no key is set at all. */
  alwaysAsks?: boolean;
  /** For `body key`: a listed Origin does not stand for a key. */
  needsKey?: boolean;
  /** Where a key may be beside the headers of every path. */
  keys?: KeyPlaces;
  /** Absent: the body is not read here; RPC's is the RPC library's affair. */
  form?: BodyForm;
}

/** A caller who was let in, with room for its request. Dispose it when the answer is made. */
export interface Entry extends Disposable {
  readonly dialect: string;
  readonly lease: Lease;
  /** The request is a web page's. */
  readonly isPage: boolean;
  /** The body, decoded and unpacked. Throws Refused. */
  readBody(): Promise<Uint8Array>;
  /**
   * For `body key`: who the key in the body, "" if it has none, says it is. `lastResort` counts when there is no other
   * and it is one of ours. Throws Refused.
   */
  identify(bodyKey: string, lastResort?: string): void;
  /** Counts events that are to be stored, and says what is known about each. Throws Refused. */
  admit(events: number, checkStored: boolean): RequestFacts;
  /** Whether the caller's key may administer, and no page has it. */
  readonly grant: Grant;
}

/** Throws Refused. Call it before the first await: a connection that has gone meanwhile has no address any more. */
export type Edge = (request: HttpRequest, rules: EntryRules) => Entry;

/** What an event costs while it waits for the log beyond its bytes: 10,000 events of 5 bytes are 50 kB to read, 3 MB to hold. */
const EVENT_OVERHEAD_BYTES = 256;
const ANYBODY: Grant = { key: "", isSecret: false };

export function createEdge(options: EdgeOptions): Edge {
  const { keys, origins, admission, rateLimit, maxBodyBytes } = options;

  return (request, rules) => {
    const origin = originOf(request);
    const caller = options.callerOf(request);
    const isListed = origins.allows(origin);
    refuseForeign(request, origin, isListed);
    let known = grantOf(request, rules, isListed || origin === "");
    const encoding = rules.form ? encodingOf(request) : "identity";
    if (rules.form) assertBodyForm(request, rules.form, maxBodyBytes);
    const first = known
      ? holderOf(known, caller.address)
      : { kind: isListed ? ("origin" as const) : ("stranger" as const), address: caller.address };
    const lease = admission.open(first, roomFor(request, bodyBytesMax(first, maxBodyBytes)));
    if (!lease) throw refused("busy", {});
    const hold = (grant: Grant) => {
      known = grant;
      if (!lease.moveTo(holderOf(grant, caller.address))) throw refused("busy", {});
    };

    return {
      dialect: rules.dialect,
      lease,
      isPage: origin !== "",
      get grant() {
        return known ?? ANYBODY;
      },
      async readBody() {
        const mayBePacked = rules.form?.mayBePacked === true;
        const body = await read(request, { encoding, mayBeGzip: mayBePacked }, lease, first, hold);
        if (!mayBePacked) return body;
        return unpacked(body, request, (bytes) => {
          if (!lease.grow(bytes)) throw refused("busy", {});
        });
      },
      identify(bodyKey, lastResort = "") {
        if (origin !== "" && !isListed) throw refused("origin", { origin });
        if (keys.isOpen && rules.alwaysAsks !== true) return;
        const given = bodyKey === "" ? keysOf(request, rules.keys) : [bodyKey];
        const grant = keys.find(given.length === 0 && lastResort !== "" ? [lastResort] : given);
        if (grant) hold(grant);
        else if (rules.needsKey) throw refused("key", {});
        else if (given.length > 0 || origin === "") throw refused("body_key", {});
        else known = undefined;
      },
      admit(events, checkStored) {
        const { key, isSecret } = known ?? ANYBODY;
        const { address, ip, userAgent } = caller;
        const seconds = rateLimit.take({ key, address, dialect: rules.dialect }, events);
        if (seconds > 0) throw refused("too_fast", { seconds });
        const trusted = isSecret && origin === "";
        if (checkStored && !trusted && !keys.isOpen) {
          // By address: a public key is every visitor's.
          const wait = options.lookupLimit.take({ key: "", address, dialect: rules.dialect }, events);
          if (wait > 0) throw refused("too_many_lookups", { seconds: wait });
        }
        if (!lease.grow(events * EVENT_OVERHEAD_BYTES)) throw refused("busy", {});
        const receivedUs = options.nowMs() * 1000;
        return { receivedUs, apiKey: key, trusted, ip, userAgent, checkStored };
      },
      [Symbol.dispose]: () => lease.release(),
    };
  };

  /** Without keys a page in somebody's browser must not get here, under a name of its own that resolves to us either. */
  function refuseForeign({ headers }: HttpRequest, origin: string, isListed: boolean): void {
    if (!keys.isOpen || isListed || !isLoopback(options.host)) return;
    if (origin !== "" || isForeignName(headers.host, options.host)) throw refused("foreign", {});
  }

  function grantOf(request: HttpRequest, { access, keys: places }: EntryRules, isOwn: boolean): Grant | undefined {
    const grant = access === "body key" && !isOwn ? undefined : keys.authorise(keysOf(request, places));
    if (access === "body key") return grant;
    if (!grant) throw refused("key", {});
    if (access === "secret key") {
      if (grant.key !== "" && !grant.isSecret) throw refused("secret_key", {});
      if (originOf(request) !== "") throw refused("page", {});
    }
    return grant;
  }

  async function read(
    request: HttpRequest,
    { encoding, mayBeGzip }: { encoding: string; mayBeGzip: boolean },
    lease: Lease,
    first: Holder,
    hold: (grant: Grant) => void,
  ): Promise<Buffer> {
    const declared = encoding === "identity" ? declaredLength(request) : 0;
    const maxBytes = bodyBytesMax(first, maxBodyBytes);
    let isAsked = first.kind === "key";
    let isKnown = isAsked;
    const onPiece = (length: number, pieces: readonly Buffer[]) => {
      if (!isAsked && length >= BEGINNING_BYTES) {
        isAsked = true;
        const [first = Buffer.alloc(0)] = pieces;
        const beginning = first.length >= BEGINNING_BYTES ? first : Buffer.concat(pieces);
        const grant = keys.find([keyAtStart(beginning.subarray(0, BEGINNING_BYTES))]);
        isKnown = grant !== undefined;
        if (grant) hold(grant);
      }
      if (isAsked && !isKnown && Math.max(length, declared) > maxBytes) throw refused("body_of_stranger", { maxBytes });
    };
    const onBytes = (bytes: number) => {
      if (!lease.grow(bytes)) throw refused("busy", {});
    };
    try {
      return await readBody(request, {
        maxBytes: maxBodyBytes,
        encoding,
        mayBeGzip,
        patience: options.patience,
        onBytes,
        onPiece,
      });
    } catch (error) {
      if (error instanceof UndecodableError) throw refused("body_encoded", { reason: error.message }, error);
      if (error instanceof BodyStalledError) throw refused("body_late", {}, error);
      if (error instanceof BodyTooLargeError) throw refused("body_too_large", { maxBytes: maxBodyBytes }, error);
      throw error;
    }
  }
}

/** Of the body, in one spelling. Throws Refused for any that we do not have. */
export function encodingOf({ headers }: HttpRequest): string {
  const given = headers["content-encoding"] ?? "identity";
  const encoding = normalEncoding(given);
  if (encoding === undefined) throw refused("encoding", { given });
  return encoding;
}

/** A body declared beyond the limit is let in, so that the answer is 413 and not 503. */
function roomFor(request: HttpRequest, maxBytes: number): number {
  const declared = declaredLength(request);
  return declared > maxBytes ? 0 : declared;
}

/** A public key is in apps and pages, so each address with it is a caller. Where no key is set all are one. */
function holderOf({ key, isSecret }: Grant, address: string): Holder {
  return { kind: "key", key, address: isSecret || key === "" ? undefined : address };
}
