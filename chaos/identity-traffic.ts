// What the load says about people: households of users and browsers whose events identify, claim and merge them, again and
// again, each time with another event time. Who is who in the end is for lib/identity to say.
import { IDENTITY_EVENTS } from "#lib/identity/facts.ts";
import type { Random } from "../test/kit/random.ts";

/** The part of an event that its dialect has no say in. */
export interface Said {
  event: string;
  distinctId: string;
  properties: Record<string, unknown>;
}

export interface IdentityTraffic {
  /**
   * The n-th event of the load when it is about people; undefined: it is an ordinary one. `isTrusted`: it will be sent with
   * a secret key.
   */
  next(n: number, isTrusted: boolean): Said | undefined;
}

/** Four users and three browsers each. */
const HOUSEHOLDS = 100;
const HOUSEHOLDS_AT_FIRST = 10;
/** So many events bring one more household, so that a longer run has people who are new to it for longer. */
const EVENTS_PER_HOUSEHOLD = 400;
/** Shares of all events: those that say something, and plain ones of the same ids. */
const IDENTITY_SHARE = 0.04;
const PLAIN_SHARE = 0.06;
const PROPERTY_KEYS = ["plan", "email", "visits", "address", "na\u00efve/\u00fcber", "$initial_referrer"];

/** Equal random numbers, calls and keys say the same. */
export function createIdentityTraffic(random: Random): IdentityTraffic {
  return {
    next(n, isTrusted) {
      const draw = random.next();
      if (draw >= IDENTITY_SHARE + PLAIN_SHARE) return undefined;
      const known = Math.min(HOUSEHOLDS, HOUSEHOLDS_AT_FIRST + Math.floor(n / EVENTS_PER_HOUSEHOLD));
      const household = householdOf(random.integer(0, known - 1));
      if (draw < IDENTITY_SHARE) return speak(random, household, isTrusted);
      const distinctId = random.pick([...household.users, ...household.browsers]);
      return { event: "page_view", distinctId, properties: {} };
    },
  };
}

export interface Household {
  number: number;
  users: readonly [string, string, string, string];
  browsers: readonly [string, string, string];
}

export function householdOf(number: number): Household {
  const user = (n: number) => `member_${number}_${n}`;
  const browser = (n: number) => `browser_${number}_${n}`;
  return {
    number,
    users: [user(0), user(1), user(2), user(3)],
    browsers: [browser(0), browser(1), browser(2)],
  };
}

function speak(random: Random, household: Household, isTrusted: boolean): Said {
  const name = random.pick([...IDENTITY_EVENTS, "$identify", "$set"]);
  if (name === "$identify") return identify(random, household);
  if (name === "$set") {
    const distinctId = random.pick([...household.users, ...household.browsers]);
    return { event: name, distinctId, properties: operations(random) };
  }
  return join(random, household, name, isTrusted);
}

/** Users 0 and 1 share a browser. Of every third household user 1 never logs in, and can be claimed by anybody. */
function identify(random: Random, { number, users, browsers }: Household): Said {
  const logins: [string, string][] = [
    [users[0], browsers[0]],
    [users[2], browsers[1]],
    [users[3], ""],
  ];
  if (number % 3 !== 0) logins.push([users[1], browsers[0]]);
  const [distinctId, browser] = random.pick(logins);
  const name = random.pick(["$anon_distinct_id", "anon_distinct_id"]);
  const link = browser === "" ? {} : { [name]: browser };
  return {
    event: "$identify",
    distinctId,
    properties: { ...link, ...(random.next() < 0.5 ? operations(random) : {}) },
  };
}

/**
 * Who may joins user 3 to user 2, and now and then the other way round. Who may not tries that with users 0 and 1, who must
 * stay two people, and joins browsers nobody has logged in from, in a circle.
 */
function join(random: Random, { users, browsers }: Household, event: string, isTrusted: boolean): Said {
  const pairs: [string, string][] = isTrusted
    ? [
        [users[2], users[3]],
        [users[2], users[3]],
        [users[3], users[2]],
      ]
    : [
        [users[0], users[1]],
        [browsers[1], browsers[2]],
        [browsers[2], browsers[1]],
      ];
  const [distinctId, alias] = random.pick(pairs);
  return { event, distinctId, properties: { alias } };
}

function operations(random: Random): Record<string, unknown> {
  const values = () => Object.fromEntries(someKeys(random).map((key) => [key, anyValue(random)]));
  const said: Record<string, unknown> = {};
  if (random.next() < 0.6) said.$set = values();
  if (random.next() < 0.4) said.$set_once = values();
  if (random.next() < 0.2) said.$unset = someKeys(random);
  return said;
}

function someKeys(random: Random): string[] {
  return random.shuffle(PROPERTY_KEYS).slice(0, random.integer(1, 3));
}

function anyValue(random: Random): unknown {
  const n = random.integer(0, 1_000_000);
  return random.pick([n, n / 8, `text "${n}" \u2713 a/b\\c`, n % 2 === 0, null, { nested: [n, {}] }]);
}
