-- What reached the log, one row an event. Read `events` (the view) instead: its names are stable.
-- Partitioned by arrival (append time), not by event time: an import of many event months must stay one part an insert.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.events_raw
(
    uuid UUID,
    api_key LowCardinality(String),
    event LowCardinality(String),
    distinct_id String,
    person_id_at_ingest UUID,
    session_id String,
    session_id_uuid Nullable(UUID) MATERIALIZED accurateCastOrNull(session_id, 'UUID'),
    window_id String,
    window_id_uuid Nullable(UUID) MATERIALIZED accurateCastOrNull(window_id, 'UUID'),
    elements_chain String,
    timestamp DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    inserted_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    ip String,
    user_agent String,
    current_url String,
    host String,
    properties String CODEC(ZSTD(3)),
    is_deleted Int8 DEFAULT 0,
    source LowCardinality(String),
    value Nullable(Float64),
    original_timestamp String,
    anon_distinct_id String,
    uuid_from_caller Bool,
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64 CODEC(DoubleDelta, ZSTD(1)),
    log_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    INDEX idx_distinct_id distinct_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX idx_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX idx_window_id window_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX idx_uuid uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_inserted_at inserted_at TYPE minmax GRANULARITY 1,
    INDEX idx_log_offset log_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_time)
ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SAMPLE BY cityHash64(distinct_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Why an offset of the log is no row: duplicate, dead_letter, erased.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.log_outcomes
(
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64,
    outcome LowCardinality(String),
    detail String,
    log_time DateTime64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_time)
ORDER BY (log_epoch, log_topic, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Records that can never be stored, byte for byte, with the reason.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.dead_letters
(
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64,
    log_time DateTime64(3, 'UTC'),
    error_class LowCardinality(String),
    error String,
    key_base64 String,
    value_base64 String CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_time)
ORDER BY (log_epoch, log_topic, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- First offset not yet accounted for. No TTL: it outlives the group's commits and the rows it speaks of.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.log_progress
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_offset UInt64,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (log_epoch, log_topic, log_partition);

-- Incarnations of each topic. The newest one is the one being written.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.log_epochs
(
    log_topic String,
    log_epoch String,
    created_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY (log_topic, created_at);

-- Event data as analysts read it.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.events AS
SELECT
    uuid,
    api_key,
    event,
    distinct_id,
    person_id_at_ingest AS person_id,
    session_id,
    session_id_uuid,
    window_id,
    window_id_uuid,
    elements_chain,
    timestamp,
    inserted_at,
    ip,
    user_agent,
    current_url,
    host,
    properties,
    is_deleted,
    source,
    value,
    original_timestamp,
    log_epoch,
    log_topic,
    log_partition,
    log_offset,
    log_time
FROM {{DATABASE}}.events_raw;
