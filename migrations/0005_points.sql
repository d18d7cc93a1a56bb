-- Points of hosts, one row each, in the order in which they are asked for. `origin` tells them from values of events.
-- Partitioned by day of arrival, so that a retention of hours drops whole parts.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.points
(
    uuid UUID,
    metric LowCardinality(String),
    value Float64 CODEC(Gorilla, ZSTD(1)),
    tags Map(LowCardinality(String), String),
    time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    inserted_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    origin LowCardinality(String) ALIAS 'relay',
    relay_id LowCardinality(String),
    collector LowCardinality(String),
    -- When ClickHouse took the row. Retention counts from here: a backlog older than it must reach the roll-up first.
    stored_at DateTime('UTC') DEFAULT now('UTC') CODEC(DoubleDelta, ZSTD(1)),
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64 CODEC(DoubleDelta, ZSTD(1)),
    log_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    INDEX idx_uuid uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_log_time log_time TYPE minmax GRANULARITY 1,
    INDEX idx_log_offset log_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(log_time)
ORDER BY (metric, time, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- The slots that the roll-up asks for are the newest rows, wherever the event times put them.
ALTER TABLE {{DATABASE}}.events_raw ADD INDEX IF NOT EXISTS idx_log_time log_time TYPE minmax GRANULARITY 1;

-- Values of events as points: named after the event, tagged with its source.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.event_points AS
SELECT
    event AS metric,
    assumeNotNull(e.value) AS value,
    CAST(if(source = '', map(), map('source', toString(source))), 'Map(LowCardinality(String), String)') AS tags,
    timestamp AS time,
    inserted_at,
    log_epoch,
    log_topic,
    log_partition,
    log_offset,
    log_time
FROM {{DATABASE}}.events_raw AS e
WHERE isNotNull(e.value) AND is_deleted = 0;

-- All points as they arrived.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.points_all AS
SELECT metric, value, tags, time, inserted_at, 'relay' AS origin, log_epoch, log_topic, log_partition, log_offset, log_time
FROM {{DATABASE}}.points
UNION ALL
SELECT metric, value, tags, time, inserted_at, 'event' AS origin, log_epoch, log_topic, log_partition, log_offset, log_time
FROM {{DATABASE}}.event_points;

-- The roll-up. A row is a series (metric, tags), five minutes of event time (bucket) and five minutes of arrival (slot) of
-- one partition of the log. It is computed from raw rows and replaced as a whole, by version, when its slot is computed
-- again. Only slots that rollup_progress says are closed count: read points_rollup.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.points_5m
(
    metric LowCardinality(String),
    tags Map(LowCardinality(String), String),
    -- Hash of the tags, which cannot be sorted by themselves.
    series FixedString(16),
    bucket DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    origin LowCardinality(String),
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    slot DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    last Float64,
    last_time DateTime64(6, 'UTC'),
    quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64),
    version UInt64,
    is_deleted UInt8,
    INDEX idx_slot slot TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toMonday(slot)
ORDER BY (metric, bucket, series, log_topic, log_epoch, log_partition, slot)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- First slot of a partition that is not closed. Readers go by previous_slot for the first seconds, so that none of them
-- sees a slot as closed whose rows it has not seen.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.rollup_progress
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_slot DateTime('UTC'),
    previous_slot DateTime('UTC'),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(next_slot)
ORDER BY (log_epoch, log_topic, log_partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Events that are stored already are rolled up by whoever consumes their partition next.
INSERT INTO {{DATABASE}}.rollup_progress (log_epoch, log_topic, log_partition, next_slot, previous_slot)
SELECT DISTINCT log_epoch, log_topic, log_partition, toDateTime(0, 'UTC'), toDateTime(0, 'UTC')
FROM {{DATABASE}}.events_raw;

-- All points by series and five minutes of event time: closed slots as they were computed, open ones from raw rows. A
-- series has a row for each slot and partition in which points of the five minutes arrived, so ask for sum(count),
-- sum(sum), min(min), max(max), argMax(last, (last_time, slot)) and quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(quantiles).
CREATE VIEW IF NOT EXISTS {{DATABASE}}.points_rollup AS
WITH
(
    -- Partitions, their first open slot as of some seconds ago, and the first of these.
    SELECT (groupArray(cityHash64(log_epoch, log_topic, log_partition)), groupArray(toUInt32(open_from)), min(open_from))
    FROM
    (
        SELECT log_epoch, log_topic, log_partition, if(updated_at < now64(3) - INTERVAL 10 SECOND, next_slot, previous_slot) AS open_from
        FROM {{DATABASE}}.rollup_progress FINAL
    )
) AS progress
SELECT
    metric, tags, bucket, origin, count, sum, min, max, last, last_time, quantiles,
    slot, log_epoch, log_topic, log_partition
FROM {{DATABASE}}.points_5m FINAL
WHERE toUInt32(slot) < transform(cityHash64(log_epoch, log_topic, log_partition), progress.1, progress.2, toUInt32(0))
UNION ALL
SELECT
    metric,
    any(r.tags) AS tags,
    toDateTime(least(intDiv(toUnixTimestamp64Micro(time), 300000000) * 300, 4294967100), 'UTC') AS bucket,
    origin,
    count() AS count,
    sum(value) AS sum,
    min(value) AS min,
    max(value) AS max,
    argMax(value, (time, log_offset)) AS last,
    max(time) AS last_time,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(value) AS quantiles,
    toStartOfFiveMinutes(log_time) AS slot,
    log_epoch,
    log_topic,
    log_partition
FROM {{DATABASE}}.points_all AS r
WHERE log_time >= progress.3
    AND toUInt32(toDateTime(log_time, 'UTC')) >= transform(cityHash64(log_epoch, log_topic, log_partition), progress.1, progress.2, toUInt32(0))
GROUP BY metric, sipHash128(r.tags), bucket, origin, slot, log_epoch, log_topic, log_partition;
