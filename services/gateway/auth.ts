// API keys: whether one is known, and what it opens.
import { hash, timingSafeEqual } from "node:crypto";

/** What a request was let in by. */
export interface Grant {
  /** "" when none was asked for and none given. */
  key: string;
  /** The key is one that may administer as well. */
  isSecret: boolean;
}

export interface Keys {
  /** No key is set at all (loopback, or ALLOW_ANONYMOUS). */
  readonly isOpen: boolean;
  /** The grant of the first that is one of ours; undefined: refuse. When no key is set everybody is let in. */
  authorise(given: readonly string[]): Grant | undefined;
  /** The same, also when everybody is let in. */
  find(given: readonly string[]): Grant | undefined;
}

/**
 * Compares by digest in constant time, so that neither a key's length nor its beginning shows in the time taken. A key in
 * both lists is public: putting it among the public ones has given it away.
 */
export function createKeys(publicKeys: readonly string[], secretKeys: readonly string[]): Keys {
  const known = [...new Set([...publicKeys, ...secretKeys])].map((key) => ({
    grant: { key, isSecret: !publicKeys.includes(key) },
    digest: hash("sha256", key, "buffer"),
  }));
  const isOpen = known.length === 0;

  function find(given: readonly string[]): Grant | undefined {
    for (const text of given) {
      const digest = hash("sha256", text, "buffer");
      let found: Grant | undefined;
      for (const each of known) if (timingSafeEqual(each.digest, digest)) found = each.grant;
      if (found) return found;
    }
    return undefined;
  }

  return { isOpen, find, authorise: isOpen ? () => ({ key: "", isSecret: false }) : find };
}
