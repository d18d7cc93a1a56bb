// How long callers are asked to wait before they retry, in seconds, and why.

export const RETRY_AFTER_SECONDS = {
  /** A full gateway, or a log that is away: two group commits even of a slow log. */
  gateway: 1,
  /** A query of stats that found no place or no ClickHouse: most queries take less. */
  query: 1,
  /** A change of an alert while ClickHouse is away: time enough for its breaker to try once more. */
  alert: 2,
  /** All places of live watchers are taken; one is free when a page is closed. */
  watch: 5,
  /** Another person is being deleted; one takes seconds. */
  deletion: 10,
} as const;
