// Bytes in flight: everything a request holds from its first body byte until its answer is written. Each kind of caller
// has a budget of its own, and within it no caller takes all of it: what one holds, another is not refused for.
import { isIP } from "node:net";
import { networkOf } from "#lib/http/addresses.ts";

/** Who holds the bytes. A secret key (or no key set at all) is one caller, of a public one each address is. */
export type Holder =
  | { kind: "key"; key: string; address: string | undefined }
  | { kind: "origin" | "stranger"; address: string };

export interface Lease {
  /** Counts more bytes of the request; false when there is no room for them (they are counted all the same). */
  grow(bytes: number): boolean;
  /** Counts them as those of another caller from now on: the key was found in the body. False as `grow`. */
  moveTo(holder: Holder): boolean;
  /** Forgets what was counted so far: a stream calls it when a message has been answered. */
  reset(): void;
  /** Ends the request. Idempotent. */
  release(): void;
}

export interface Admission {
  /**
   * A lease, or undefined when there is no room for as many bytes as are declared (0 when unknown). They are counted as
   * they come: a caller who declares much and sends slowly takes no room from others.
   */
  open(holder: Holder, declaredBytes: number): Lease | undefined;
  readonly inFlightBytes: number;
}

/** Room for callers without a key, beside that of MAX_BYTES_IN_FLIGHT for those who have one. */
const PARTS_WITHOUT_KEY = { origin: 1 / 2, stranger: 1 / 4 };
/** What a key always has, whatever the other keys hold. */
const PART_OF_A_KEY = 1 / 4;
/** What one address may hold of the room that many share. */
const PART_OF_AN_ADDRESS = 1 / 2;

interface Group {
  readonly max: number;
  /** What one address may hold; a body beyond it is let in when it is the address' only one, and counted as this. */
  readonly addressMax: number;
  /** Bytes held by each address. */
  readonly addresses: Map<string, number>;
  held: number;
  /** As `held`, each lease at most at `addressMax`. */
  charged: number;
  readonly isKey: boolean;
}

/** `maxBytes`: MAX_BYTES_IN_FLIGHT. */
export function createAdmission(maxBytes: number): Admission {
  const groups = new Map<string, Group>();
  let inFlight = 0;
  let chargedToKeys = 0;

  function groupOf(holder: Holder): Group {
    const name = holder.kind === "key" ? `key ${holder.key}` : holder.kind;
    const known = groups.get(name);
    if (known) return known;
    const isKey = holder.kind === "key";
    const max = maxBytes * (isKey ? 1 : PARTS_WITHOUT_KEY[holder.kind]);
    const addressMax = holder.address === undefined ? max : max * PART_OF_AN_ADDRESS;
    const group = { max, addressMax, addresses: new Map<string, number>(), held: 0, charged: 0, isKey };
    // There are as many as keys are set, and two.
    groups.set(name, group);
    return group;
  }

  /** Whether the lease, with what is counted, leaves everybody their room. One alone always does, however large. */
  function hasRoom(group: Group, address: string, held: number): boolean {
    const ofAddress = group.addresses.get(address) ?? 0;
    if (ofAddress > group.addressMax && ofAddress !== held) return false;
    if (group.charged > group.max) return false;
    return (
      !group.isKey || chargedToKeys <= maxBytes || group.charged <= maxBytes * PART_OF_A_KEY || group.held === held
    );
  }

  function count(group: Group, address: string, before: number, after: number): void {
    const bytes = after - before;
    const charge = Math.min(after, group.addressMax) - Math.min(before, group.addressMax);
    inFlight += bytes;
    group.held += bytes;
    group.charged += charge;
    if (group.isKey) chargedToKeys += charge;
    const left = (group.addresses.get(address) ?? 0) + bytes;
    if (left === 0) group.addresses.delete(address);
    else group.addresses.set(address, left);
  }

  return {
    get inFlightBytes() {
      return inFlight;
    },
    open(holder, declaredBytes) {
      let group = groupOf(holder);
      let address = addressOf(holder);
      let held = 0;
      const set = (bytes: number) => {
        count(group, address, held, bytes);
        held = bytes;
        return hasRoom(group, address, held);
      };
      const fits = set(declaredBytes);
      set(0);
      if (!fits) return undefined;
      return {
        grow: (bytes) => set(held + bytes),
        moveTo(next) {
          const bytes = held;
          set(0);
          group = groupOf(next);
          address = addressOf(next);
          return set(bytes);
        },
        reset: () => void set(0),
        release: () => void set(0),
      };
    },
  };
}

/** Of IPv6 the network: a /64 is anybody's. */
function addressOf({ address = "" }: Holder): string {
  return isIP(address) === 6 ? networkOf(address, 4) : address;
}
