// Events of people whose number and identity are known without asking the resolver: who they are decides what they send.
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { eventRecord, idOf } from "./consumer.ts";

export interface KnownEvent {
  record: AppendRecord;
  event: string;
  /** Distinct id after which the person behind it is named. */
  person: string;
  timeUs: number;
  properties: Record<string, unknown>;
  sessionId: string;
}

export interface KnownPeople {
  events: KnownEvent[];
  /** Distinct ids of each person, by the one it is named after. */
  people: Map<string, Set<string>>;
  /** Plan of those who have a profile. */
  plans: Map<string, string>;
}

const DAY_US = 86_400e6;
const DAYS = 10;
const BROWSERS = ["Firefox", "Safari", "Chrome"];

/**
 * Of every ten users one never logs in, one comes on two devices, one shares a browser with the user before, who logged
 * in there first, and one in fifty is merged into another. Events lie half a day from full days before `nowUs`, so that
 * "the last N days" is not a matter of seconds. They come out of order: everything of one user, then the next.
 */
export function knownPeople(users: number, eventsPerUser: number, nowUs: number): KnownPeople {
  const events: KnownEvent[] = [];
  const people = new Map<string, Set<string>>();
  const plans = new Map<string, string>();
  const merged = (n: number) => n % 50 === 25;

  for (let n = 0; n < users; n++) {
    const user = `user_${n}`;
    const device = `anon_${n}`;
    const isAnonymous = n % 10 === 3;
    const person = isAnonymous ? device : merged(n) ? `user_${n - 1}` : user;
    const ids = people.get(person) ?? new Set<string>();
    people.set(person, ids);
    // The browser was this user's second, or the one before's.
    const second = n % 10 === 5 ? `anon_${n}b` : n % 10 === 7 ? `anon_${n - 1}` : undefined;
    const say = (at: number, event: string, distinctId: string, more: Record<string, unknown> = {}, owner = person) => {
      const day = at % DAYS;
      const timeUs = nowUs - DAY_US * (day + 0.5) + Math.floor(at / DAYS) * 1e6 + n;
      const properties = { $browser: BROWSERS[n % 3], ...more };
      const sessionId = event.startsWith("$identify") || event.startsWith("$merge") ? "" : `${distinctId}/${day}`;
      const id = idOf(events.length + 1);
      const trusted = event === "$merge_dangerously";
      const fields = {
        id,
        event,
        distinctId,
        timeUs,
        receivedUs: timeUs,
        sessionId,
        trusted,
        propertiesJson: JSON.stringify(properties),
      };
      events.push({
        record: eventRecord({ ...fields, key: device }),
        event,
        person: owner,
        timeUs,
        properties,
        sessionId,
      });
      people.get(owner)?.add(distinctId);
    };
    let said = 0;
    const tell = (event: string, distinctId: string, more?: Record<string, unknown>) =>
      say(said++ * 7 + (n % 5), event, distinctId, more);
    tell("signup_started", device);
    if (!isAnonymous) {
      const plan = n % 4 === 0 ? "pro" : "free";
      // Said after what it explains, and long before it in event time for some.
      tell("$identify", user, { $anon_distinct_id: device, $set: { plan, email: `${user}@example.com` } });
      ids.add(device);
      if (!merged(n)) plans.set(person, plan);
      if (second !== undefined) {
        // Later than the one before logged in there, so that browser stays theirs.
        say(DAYS * 1000, "$identify", user, { $anon_distinct_id: second });
        if (n % 10 === 5) ids.add(second);
      }
    }
    const own = isAnonymous ? device : user;
    while (said < eventsPerUser - 3) {
      if (said % 4 === 0) tell("clicked", said % 3 === 0 ? device : own, { button: said % 8 === 0 ? "buy" : "look" });
      else tell("$pageview", said % 3 === 0 ? device : own);
    }
    if (n % 3 === 0) tell("signup_completed", own);
    if (n % 10 === 7) say(said++, "clicked", `anon_${n - 1}`, { button: "shared" }, ownerOf(n - 1, merged));
    if (merged(n)) {
      // The merged person's properties are older than the survivor's.
      say(DAYS * 1000, "$merge_dangerously", person, { alias: user });
      say(DAYS * 2000, "$set", person, { $set: { plan: plans.get(person) } });
    }
  }
  return { events, people, plans };
}

function ownerOf(n: number, merged: (n: number) => boolean): string {
  return n % 10 === 3 ? `anon_${n}` : merged(n) ? `user_${n - 1}` : `user_${n}`;
}
