-- What each run of `millrace verify` found, for those who ask how everything is. Nothing is decided by it.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.verify_runs
(
    ended_at DateTime64(3, 'UTC'),
    accounted UInt64,
    not_stored UInt64,
    missing UInt64,
    doubled UInt64,
    is_sound Bool
)
ENGINE = MergeTree
ORDER BY ended_at
TTL toDateTime(ended_at) + INTERVAL 400 DAY;
