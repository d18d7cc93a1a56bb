// Events a second by key, or by address where there is no key.
import { isIP } from "node:net";
import { networkOf } from "#lib/http/addresses.ts";

export interface RateLimitOptions {
  /** 0: no limit. */
  eventsPerSecond: number;
  /** Events that may come at once after a pause; 0: those of one second. */
  burst: number;
  onRefused(dialect: string, events: number): void;
  /** Monotonic milliseconds. */
  nowMs?: () => number;
}

export interface LimitedCaller {
  /** "" when it has none. */
  key: string;
  address: string;
  dialect: string;
}

export interface RateLimit {
  /**
   * Takes `events` from the caller's bucket and returns 0, or takes nothing and returns the seconds to wait. A request
   * larger than the burst is let in by a full bucket, which then owes the rest: otherwise it would be refused for ever.
   */
  take(caller: LimitedCaller, events: number): number;
}

/** Addresses are the caller's choice (a /64 is anybody's), keys are not: only the first need a bound. */
const ADDRESSES_MAX = 10_000;

interface Bucket {
  tokens: number;
  at: number;
}

export function createRateLimit(options: RateLimitOptions): RateLimit {
  const { eventsPerSecond: rate, nowMs = () => performance.now() } = options;
  if (rate === 0) return { take: () => 0 };
  const burst = options.burst === 0 ? rate : options.burst;
  const byKey = new Map<string, Bucket>();
  const byAddress = new Map<string, Bucket>();

  function bucketOf(buckets: Map<string, Bucket>, name: string, now: number): Bucket {
    const bucket = buckets.get(name) ?? { tokens: burst, at: now };
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * rate);
    bucket.at = now;
    return bucket;
  }

  /** The map's order is that of last use; the longest unused one goes first. */
  function addressBucket(address: string, now: number): Bucket {
    const name = isIP(address) === 6 ? networkOf(address, 4) : address;
    const bucket = bucketOf(byAddress, name, now);
    byAddress.delete(name);
    byAddress.set(name, bucket);
    if (byAddress.size > ADDRESSES_MAX) byAddress.delete(byAddress.keys().next().value as string);
    return bucket;
  }

  function keyBucket(key: string, now: number): Bucket {
    const bucket = bucketOf(byKey, key, now);
    byKey.set(key, bucket);
    return bucket;
  }

  return {
    take({ key, address, dialect }, events) {
      const now = nowMs();
      const bucket = key === "" ? addressBucket(address, now) : keyBucket(key, now);
      const missing = Math.min(events, burst) - bucket.tokens;
      if (missing > 0) {
        options.onRefused(dialect, events);
        return Math.ceil(missing / rate);
      }
      bucket.tokens -= events;
      return 0;
    },
  };
}
