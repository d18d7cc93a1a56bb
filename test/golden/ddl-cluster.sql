-- once
CREATE DATABASE IF NOT EXISTS millrace ON CLUSTER 'events';

-- once
CREATE DATABASE IF NOT EXISTS millrace_local ON CLUSTER 'events';

-- once
CREATE TABLE IF NOT EXISTS millrace.schema_migrations ON CLUSTER 'events'
      (filename String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
      ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/schema_migrations', '{shard}-{replica}') ORDER BY (filename, checksum)
SETTINGS replicated_deduplication_window = 0;

-- once
-- What reached the log, one row an event. Read `events` (the view) instead: its names are stable.
-- Partitioned by arrival (append time), not by event time: an import of many event months must stay one part an insert.
CREATE TABLE IF NOT EXISTS millrace_local.events_raw ON CLUSTER 'events'
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
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/{shard}/millrace_local/events_raw', '{replica}')
PARTITION BY toYYYYMM(log_time)
ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SAMPLE BY cityHash64(distinct_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.events_raw ON CLUSTER 'events' AS millrace_local.events_raw
ENGINE = Distributed('events', 'millrace_local', 'events_raw');

-- once
-- Why an offset of the log is no row: duplicate, dead_letter, erased.
CREATE TABLE IF NOT EXISTS millrace_local.log_outcomes ON CLUSTER 'events'
(
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64,
    outcome LowCardinality(String),
    detail String,
    log_time DateTime64(3, 'UTC')
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/{shard}/millrace_local/log_outcomes', '{replica}')
PARTITION BY toYYYYMM(log_time)
ORDER BY (log_epoch, log_topic, log_partition, log_offset)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.log_outcomes ON CLUSTER 'events' AS millrace_local.log_outcomes
ENGINE = Distributed('events', 'millrace_local', 'log_outcomes');

-- once
-- Records that can never be stored, byte for byte, with the reason.
CREATE TABLE IF NOT EXISTS millrace_local.dead_letters ON CLUSTER 'events'
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
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/{shard}/millrace_local/dead_letters', '{replica}')
PARTITION BY toYYYYMM(log_time)
ORDER BY (log_epoch, log_topic, log_partition, log_offset)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.dead_letters ON CLUSTER 'events' AS millrace_local.dead_letters
ENGINE = Distributed('events', 'millrace_local', 'dead_letters');

-- once
-- First offset not yet accounted for. No TTL: it outlives the group's commits and the rows it speaks of.
CREATE TABLE IF NOT EXISTS millrace.log_progress ON CLUSTER 'events'
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_offset UInt64,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/log_progress', '{shard}-{replica}', next_offset)
ORDER BY (log_epoch, log_topic, log_partition)
SETTINGS replicated_deduplication_window = 0;

-- once
-- Incarnations of each topic. The newest one is the one being written.
CREATE TABLE IF NOT EXISTS millrace.log_epochs ON CLUSTER 'events'
(
    log_topic String,
    log_epoch String,
    created_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/everywhere/millrace/log_epochs', '{shard}-{replica}')
ORDER BY (log_topic, created_at)
SETTINGS replicated_deduplication_window = 0;

-- once
-- Event data as analysts read it.
CREATE VIEW IF NOT EXISTS millrace.events ON CLUSTER 'events' AS
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
FROM millrace.events_raw;

-- once
-- Who is who. Facts as events said them, then what was made of them, then the views that show people.
-- An id is named by its own person id (a digest of the distinct id, the same as events_raw.person_id_at_ingest): 16 bytes,
-- however long the distinct id is.

-- Who said that two ids are one person, or that an id is identified (then `other` may be the nil UUID). Each edge twice,
-- under both of its ids. A set: an edge stored again changes nothing. The number of rows is the version of
-- person_overrides, so it must never fall: whoever deletes rows adds more than as many of kind 'erased' under the nil
-- UUID, before and again afterwards.
CREATE TABLE IF NOT EXISTS millrace.identity_edges ON CLUSTER 'events'
(
    own_person_id UUID,
    id UUID,
    other UUID,
    kind LowCardinality(String),
    is_trusted Bool,
    time_us Int64,
    event_id UUID,
    log_epoch LowCardinality(String),
    log_topic LowCardinality(String),
    log_partition UInt32,
    log_offset UInt64,
    PROJECTION by_log
    (
        SELECT own_person_id, id, other, log_epoch, log_topic, log_partition, log_offset
        ORDER BY log_epoch, log_topic, log_partition, log_offset
    )
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/everywhere/millrace/identity_edges', '{shard}-{replica}')
ORDER BY (own_person_id, time_us)
SETTINGS replicated_deduplication_window = 0, index_granularity = 512, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Distinct ids that identity facts name. has_profile: it was identified, or properties were set on it.
CREATE TABLE IF NOT EXISTS millrace.identity_ids ON CLUSTER 'events'
(
    own_person_id UUID,
    distinct_id SimpleAggregateFunction(any, String),
    is_identified SimpleAggregateFunction(max, UInt8),
    has_profile SimpleAggregateFunction(max, UInt8),
    first_us SimpleAggregateFunction(min, Int64),
    last_us SimpleAggregateFunction(max, Int64)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/events/everywhere/millrace/identity_ids', '{shard}-{replica}')
ORDER BY own_person_id
SETTINGS replicated_deduplication_window = 0, index_granularity = 512, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Properties set on an id, by key. Both states are texts that sort as what they stand for, since texts are compared faster
-- than tuples: 17 digits of event time in microseconds, 36 characters of event id, then
-- last_write: '0' for a set and '1' for an unset, the value; the latest counts, '' is none.
-- first_once: the value of a set_once; the earliest counts, '~' is none.
CREATE TABLE IF NOT EXISTS millrace.identity_properties ON CLUSTER 'events'
(
    own_person_id UUID,
    key String,
    last_write SimpleAggregateFunction(max, String),
    first_once SimpleAggregateFunction(min, String)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/events/everywhere/millrace/identity_properties', '{shard}-{replica}')
ORDER BY (own_person_id, key)
SETTINGS replicated_deduplication_window = 0, index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Person of an id that edges name; its own person id when it stands for itself.
CREATE TABLE IF NOT EXISTS millrace.person_overrides ON CLUSTER 'events'
(
    own_person_id UUID,
    person_id UUID,
    version UInt64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/person_overrides', '{shard}-{replica}', version)
ORDER BY own_person_id
SETTINGS replicated_deduplication_window = 0, index_granularity = 512;

-- once
-- First offset whose edges are not yet in person_overrides. Edges of lower offsets are.
CREATE TABLE IF NOT EXISTS millrace.identity_progress ON CLUSTER 'events'
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_offset UInt64,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/identity_progress', '{shard}-{replica}', next_offset)
ORDER BY (log_epoch, log_topic, log_partition)
SETTINGS replicated_deduplication_window = 0;

-- once
-- Ids that stand for another.
CREATE VIEW IF NOT EXISTS millrace.person_overrides_now ON CLUSTER 'events' AS
SELECT own_person_id, person_id, version
FROM millrace.person_overrides FINAL
WHERE person_id != own_person_id;

-- once
-- Event data as analysts read it: person_id is the person of today.
CREATE OR REPLACE VIEW millrace.events ON CLUSTER 'events' AS
SELECT
    e.uuid AS uuid,
    e.api_key AS api_key,
    e.event AS event,
    e.distinct_id AS distinct_id,
    ifNull(nullIf(o.person_id, toUUID('00000000-0000-0000-0000-000000000000')), e.person_id_at_ingest) AS person_id,
    e.session_id AS session_id,
    e.session_id_uuid AS session_id_uuid,
    e.window_id AS window_id,
    e.window_id_uuid AS window_id_uuid,
    e.elements_chain AS elements_chain,
    e.timestamp AS timestamp,
    e.inserted_at AS inserted_at,
    e.ip AS ip,
    e.user_agent AS user_agent,
    e.current_url AS current_url,
    e.host AS host,
    e.properties AS properties,
    e.is_deleted AS is_deleted,
    e.source AS source,
    e.value AS value,
    e.original_timestamp AS original_timestamp,
    e.log_epoch AS log_epoch,
    e.log_topic AS log_topic,
    e.log_partition AS log_partition,
    e.log_offset AS log_offset,
    e.log_time AS log_time
FROM millrace.events_raw AS e
LEFT ANY JOIN millrace.person_overrides_now AS o ON e.person_id_at_ingest = o.own_person_id;

-- once
-- One row a person that was identified or has properties; distinct_id is the one the person is named after.
CREATE VIEW IF NOT EXISTS millrace.persons ON CLUSTER 'events' AS
SELECT
    toString(i.distinct_id) AS distinct_id,
    i.person AS id,
    ifNull(nullIf(p.properties, ''), '{}') AS properties,
    fromUnixTimestamp64Micro(i.first_us, 'UTC') AS created_at,
    fromUnixTimestamp64Micro(i.last_us, 'UTC') AS updated_at,
    fromUnixTimestamp64Micro(i.last_us, 'UTC') AS last_seen_at,
    toInt8(i.is_identified) AS is_identified,
    toInt8(0) AS is_deleted,
    toInt64(i.last_us) AS version
FROM
(
    SELECT
        ifNull(nullIf(o.person_id, toUUID('00000000-0000-0000-0000-000000000000')), f.own_person_id) AS person,
        anyIf(f.distinct_id, f.own_person_id = person) AS distinct_id,
        max(f.is_identified) AS is_identified,
        min(f.first_us) AS first_us,
        max(f.last_us) AS last_us
    FROM millrace.identity_ids AS f
    LEFT ANY JOIN millrace.person_overrides_now AS o ON f.own_person_id = o.own_person_id
    GROUP BY person
    HAVING max(f.has_profile) = 1
) AS i
LEFT ANY JOIN
(
    SELECT
        person,
        concat('{', arrayStringConcat(arrayMap(pair -> concat(toJSONString(pair.1), ':', pair.2), arraySort(groupArray((key, value)))), ','), '}') AS properties
    FROM
    (
        SELECT
            ifNull(nullIf(o.person_id, toUUID('00000000-0000-0000-0000-000000000000')), f.own_person_id) AS person,
            f.key AS key,
            max(f.last_write) AS latest,
            min(f.first_once) AS first,
            substring(latest, 54, 1) = '0' AS is_set,
            if(is_set, substring(latest, 55), substring(first, 54)) AS value
        FROM millrace.identity_properties AS f
        LEFT ANY JOIN millrace.person_overrides_now AS o ON f.own_person_id = o.own_person_id
        GROUP BY person, key
        HAVING is_set OR (first != '~' AND left(first, 53) > left(latest, 53))
    )
    GROUP BY person
) AS p ON i.person = p.person;

-- once
-- Every distinct id that an event carried or an identity fact named, with its person of today.
CREATE VIEW IF NOT EXISTS millrace.person_distinct_ids ON CLUSTER 'events' AS
SELECT
    f.distinct_id AS distinct_id,
    ifNull(nullIf(any(o.person_id), toUUID('00000000-0000-0000-0000-000000000000')), f.own_person_id) AS person_id,
    min(f.first_at) AS created_at,
    toInt8(0) AS is_deleted,
    toInt64(ifNull(any(o.version), 0)) AS version
FROM
(
    SELECT distinct_id, person_id_at_ingest AS own_person_id, min(timestamp) AS first_at
    FROM millrace.events_raw
    WHERE distinct_id != ''
    GROUP BY distinct_id, person_id_at_ingest
    UNION ALL
    SELECT any(distinct_id) AS distinct_id, own_person_id, fromUnixTimestamp64Micro(min(first_us), 'UTC') AS first_at
    FROM millrace.identity_ids
    GROUP BY own_person_id
) AS f
LEFT ANY JOIN millrace.person_overrides_now AS o ON f.own_person_id = o.own_person_id
GROUP BY f.distinct_id, f.own_person_id;

-- once
-- One row a session of an api key. URLs are those of the events that carry one, and '' for those that carry none.
CREATE VIEW IF NOT EXISTS millrace.sessions ON CLUSTER 'events' AS
SELECT
    e.api_key AS api_key,
    e.session_id AS session_id,
    argMax(e.distinct_id, (e.timestamp, e.inserted_at, e.uuid)) AS distinct_id,
    argMax(e.person_id, (e.timestamp, e.inserted_at, e.uuid)) AS person_id,
    min(e.timestamp) AS started_at,
    max(e.timestamp) AS ended_at,
    dateDiff('second', started_at, ended_at) AS duration_seconds,
    groupUniqArray(2000)(e.current_url) AS urls,
    argMin(e.current_url, e.timestamp) AS entry_url,
    argMax(e.current_url, e.timestamp) AS exit_url,
    argMax(e.host, (e.timestamp, e.inserted_at, e.uuid)) AS host,
    count() AS event_count,
    countIf(e.event = '$pageview') AS pageview_count,
    countIf(e.event = '$autocapture') AS autocapture_count,
    groupUniqArray(2000)(e.event) AS event_names
FROM millrace.events AS e
WHERE e.session_id != '' AND e.is_deleted = 0
GROUP BY e.api_key, e.session_id;

-- once
-- Persons that were erased: which ids, and how far. Kept for as long as the log, or a copy of it, may bring a record back.
-- No distinct id is in it: ids are own person ids, digests that a record's id can be compared with. One row an erasure,
-- the one with the highest version.
CREATE TABLE IF NOT EXISTS millrace.erasures ON CLUSTER 'events'
(
    erasure_id UUID,
    person_id UUID,
    own_person_ids Array(UUID),
    requested_at DateTime64(3, 'UTC'),
    log_epoch String,
    log_topic String,
    -- Offset after the last record that is erased, by partition. What comes later is a new person's.
    ends Map(UInt32, UInt64),
    -- Epochs of the topic before this one: erased whole.
    older_epochs Array(String),
    -- First offset whose edges were not yet in person_overrides when the erasure was asked for, by partition.
    resolved Map(UInt32, UInt64),
    -- Rows of identity_edges that are deleted, or more: the table must not become shorter by them.
    edges UInt64,
    finished_at Nullable(DateTime64(3, 'UTC')),
    version UInt64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/erasures', '{shard}-{replica}', version)
ORDER BY erasure_id
SETTINGS replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Points of hosts, one row each, in the order in which they are asked for. `origin` tells them from values of events.
-- Partitioned by day of arrival, so that a retention of hours drops whole parts.
CREATE TABLE IF NOT EXISTS millrace_local.points ON CLUSTER 'events'
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
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/{shard}/millrace_local/points', '{replica}')
PARTITION BY toDate(log_time)
ORDER BY (metric, time, log_partition, log_offset)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.points ON CLUSTER 'events' AS millrace_local.points
ENGINE = Distributed('events', 'millrace_local', 'points');

-- once
-- The slots that the roll-up asks for are the newest rows, wherever the event times put them.
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' ADD INDEX IF NOT EXISTS idx_log_time log_time TYPE minmax GRANULARITY 1;

-- once
-- Values of events as points: named after the event, tagged with its source.
CREATE VIEW IF NOT EXISTS millrace_local.event_points ON CLUSTER 'events' AS
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
FROM millrace_local.events_raw AS e
WHERE isNotNull(e.value) AND is_deleted = 0;

-- once
-- Values of events as points: named after the event, tagged with its source.
CREATE VIEW IF NOT EXISTS millrace.event_points ON CLUSTER 'events' AS
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
FROM millrace.events_raw AS e
WHERE isNotNull(e.value) AND is_deleted = 0;

-- once
-- All points as they arrived.
CREATE VIEW IF NOT EXISTS millrace.points_all ON CLUSTER 'events' AS
SELECT metric, value, tags, time, inserted_at, 'relay' AS origin, log_epoch, log_topic, log_partition, log_offset, log_time
FROM millrace.points
UNION ALL
SELECT metric, value, tags, time, inserted_at, 'event' AS origin, log_epoch, log_topic, log_partition, log_offset, log_time
FROM millrace.event_points;

-- once
-- The roll-up. A row is a series (metric, tags), five minutes of event time (bucket) and five minutes of arrival (slot) of
-- one partition of the log. It is computed from raw rows and replaced as a whole, by version, when its slot is computed
-- again. Only slots that rollup_progress says are closed count: read points_rollup.
CREATE TABLE IF NOT EXISTS millrace_local.points_5m ON CLUSTER 'events'
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/{shard}/millrace_local/points_5m', '{replica}', version, is_deleted)
PARTITION BY toMonday(slot)
ORDER BY (metric, bucket, series, log_topic, log_epoch, log_partition, slot)
SETTINGS replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.points_5m ON CLUSTER 'events' AS millrace_local.points_5m
ENGINE = Distributed('events', 'millrace_local', 'points_5m');

-- once
-- First slot of a partition that is not closed. Readers go by previous_slot for the first seconds, so that none of them
-- sees a slot as closed whose rows it has not seen.
CREATE TABLE IF NOT EXISTS millrace_local.rollup_progress ON CLUSTER 'events'
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_slot DateTime('UTC'),
    previous_slot DateTime('UTC'),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/{shard}/millrace_local/rollup_progress', '{replica}', next_slot)
ORDER BY (log_epoch, log_topic, log_partition)
SETTINGS replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
CREATE TABLE IF NOT EXISTS millrace.rollup_progress ON CLUSTER 'events' AS millrace_local.rollup_progress
ENGINE = Distributed('events', 'millrace_local', 'rollup_progress');

-- each shard
-- Events that are stored already are rolled up by whoever consumes their partition next.
INSERT INTO millrace_local.rollup_progress (log_epoch, log_topic, log_partition, next_slot, previous_slot)
SELECT DISTINCT log_epoch, log_topic, log_partition, toDateTime(0, 'UTC'), toDateTime(0, 'UTC')
FROM millrace_local.events_raw;

-- once
-- All points by series and five minutes of event time: closed slots as they were computed, open ones from raw rows. A
-- series has a row for each slot and partition in which points of the five minutes arrived, so ask for sum(count),
-- sum(sum), min(min), max(max), argMax(last, (last_time, slot)) and quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(quantiles).
CREATE VIEW IF NOT EXISTS millrace.points_rollup ON CLUSTER 'events' AS
WITH
(
    -- Partitions, their first open slot as of some seconds ago, and the first of these.
    SELECT (groupArray(cityHash64(log_epoch, log_topic, log_partition)), groupArray(toUInt32(open_from)), min(open_from))
    FROM
    (
        SELECT log_epoch, log_topic, log_partition, if(updated_at < now64(3) - INTERVAL 10 SECOND, next_slot, previous_slot) AS open_from
        FROM millrace.rollup_progress FINAL
    )
) AS progress
SELECT
    metric, tags, bucket, origin, count, sum, min, max, last, last_time, quantiles,
    slot, log_epoch, log_topic, log_partition
FROM millrace.points_5m FINAL
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
FROM millrace.points_all AS r
WHERE log_time >= progress.3
    AND toUInt32(toDateTime(log_time, 'UTC')) >= transform(cityHash64(log_epoch, log_topic, log_partition), progress.1, progress.2, toUInt32(0))
GROUP BY metric, sipHash128(r.tags), bucket, origin, slot, log_epoch, log_topic, log_partition;

-- once
-- Definitions of alerts: one row a version of a definition, of which the highest counts; read with FINAL. A deletion is the
-- row with the highest version there is: ids are never given twice, so nothing may follow it.
CREATE TABLE IF NOT EXISTS millrace.alerts ON CLUSTER 'events'
(
    alert_id UUID,
    version UInt64,
    is_deleted UInt8,
    -- Of the request that wrote the version: tells a writer whether the version is its own.
    write_id UUID,
    metric String,
    tags Map(String, String),
    level LowCardinality(String),
    -- As the caller wrote it; what is no operator stands for gt.
    operator String,
    threshold Float64,
    -- As the caller wrote it, when it was text.
    threshold_text Nullable(String),
    duration_ms UInt64,
    -- As the caller wrote it.
    duration String,
    -- Webhook.
    post String,
    -- Tag names: each combination of their values has a state of its own.
    group_by Array(String),
    -- What silence means: 'keep' the state, or 'breach'.
    no_data LowCardinality(String),
    created_at DateTime64(3, 'UTC'),
    updated_at DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/alerts', '{shard}-{replica}', version, is_deleted)
ORDER BY alert_id
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- What became of alerts: their changes of level, and what became of telling them. Nothing is updated. A change has one row
-- of kind 'transition' and, once that is known, one of kind 'delivered' or 'failed'; a change with neither is still to be
-- told. Ids follow from what happened, so a change that was written twice is one: read with FINAL.
CREATE TABLE IF NOT EXISTS millrace.alert_events ON CLUSTER 'events'
(
    kind Enum8('transition' = 1, 'delivered' = 2, 'failed' = 3),
    transition_id UUID,
    alert_id UUID,
    -- Evaluation time of a transition; of the other kinds, when it was known.
    at DateTime64(3, 'UTC'),

    -- Of kind 'transition' only, up to `post`.
    alert_version UInt64,
    -- Hash of what the alert watches (metric, tags, group_by): while it is the same, the state goes on.
    scope String,
    -- Values of the tags in group_by; empty without group_by.
    group_tags Map(String, String),
    -- All zeros for the first of an alert, scope and group.
    previous_transition_id UUID,
    level LowCardinality(String),
    previous_level LowCardinality(String),
    -- Mean over the window; NULL when there were no points.
    value Nullable(Float64),
    -- The window ends with `at`.
    window_start DateTime64(3, 'UTC'),
    metric String,
    -- Body of the webhook, the same bytes in each try, and where it goes.
    payload String,
    post String,

    -- Of the other kinds only. Status 0: there was no answer. The error is empty after a delivery.
    attempts UInt32,
    http_status UInt16,
    error String,

    stored_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/millrace/alert_events', '{shard}-{replica}')
ORDER BY (alert_id, transition_id, kind)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Who erases a person: one at a time in a database, since erasures that overlap would take the ground from under each
-- other's clock (identity_edges). Rows are signs of life of a turn; the newest count. Who wants a turn adds a row and then
-- looks: nobody else is there, or it steps back. Of two that come at once each sees the other, or only one of them does.
CREATE TABLE IF NOT EXISTS millrace.erasure_turns ON CLUSTER 'events'
(
    turn_id UUID,
    -- The server's time, so that nobody's clock has to be right.
    seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    is_over UInt8
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/everywhere/millrace/erasure_turns', '{shard}-{replica}')
ORDER BY seen_at
TTL toDateTime(seen_at) + INTERVAL 1 DAY
SETTINGS replicated_deduplication_window = 0;

-- once
-- Which offsets arrived when: of each hour of the log's own time, the first offset that a consumer was given. Written
-- before the rows of that hour are. No TTL: after log and tables have let their records go, it still says from which
-- offset on the audit must find every one.
CREATE TABLE IF NOT EXISTS millrace.log_hours ON CLUSTER 'events'
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    hour DateTime('UTC'),
    first_offset SimpleAggregateFunction(min, UInt64)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/events/everywhere/millrace/log_hours', '{shard}-{replica}')
ORDER BY (log_epoch, log_topic, log_partition, hour)
SETTINGS replicated_deduplication_window = 0;

-- once
-- Several migrations at once may each record an epoch of one topic: those of one generation are of the same moment, and
-- the first of them counts. Generation 0 is from before there were generations: of those the last counts.
ALTER TABLE millrace.log_epochs ON CLUSTER 'events' ADD COLUMN IF NOT EXISTS generation UInt32 DEFAULT 0;

-- once
-- Groups (companies, teams, projects), as PostHog's libraries know them: what `$groupidentify` events say about them, and
-- which groups other events name in `$groups`. Written with the identity facts, before the rows' range is committed; a
-- fact stored again changes nothing. No TTL: they are small, and outlive the events they came from.

-- Groups that events name.
CREATE TABLE IF NOT EXISTS millrace.group_keys ON CLUSTER 'events'
(
    group_type String,
    group_key String,
    first_us SimpleAggregateFunction(min, Int64),
    last_us SimpleAggregateFunction(max, Int64)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/events/everywhere/millrace/group_keys', '{shard}-{replica}')
ORDER BY (group_type, group_key)
SETTINGS replicated_deduplication_window = 0, index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- Properties of a group, by key. last_write as in identity_properties: 17 digits of event time, the event's id, '0', the
-- value; the latest counts.
CREATE TABLE IF NOT EXISTS millrace.group_properties ON CLUSTER 'events'
(
    group_type String,
    group_key String,
    key String,
    last_write SimpleAggregateFunction(max, String)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/events/everywhere/millrace/group_properties', '{shard}-{replica}')
ORDER BY (group_type, group_key, key)
SETTINGS replicated_deduplication_window = 0, index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- once
-- One row a group.
CREATE VIEW IF NOT EXISTS millrace.groups ON CLUSTER 'events' AS
SELECT
    k.group_type AS type,
    k.group_key AS key,
    ifNull(nullIf(p.properties, ''), '{}') AS properties,
    fromUnixTimestamp64Micro(k.first_us, 'UTC') AS created_at,
    fromUnixTimestamp64Micro(k.last_us, 'UTC') AS updated_at
FROM
(
    SELECT group_type, group_key, min(first_us) AS first_us, max(last_us) AS last_us
    FROM millrace.group_keys
    GROUP BY group_type, group_key
) AS k
LEFT ANY JOIN
(
    SELECT
        group_type,
        group_key,
        concat('{', arrayStringConcat(arrayMap(pair -> concat(toJSONString(pair.1), ':', pair.2), arraySort(groupArray((name, value)))), ','), '}') AS properties
    FROM
    (
        SELECT group_type, group_key, key AS name, substring(max(last_write), 55) AS value
        FROM millrace.group_properties
        GROUP BY group_type, group_key, key
    )
    GROUP BY group_type, group_key
) AS p ON k.group_type = p.group_type AND k.group_key = p.group_key;

-- once
-- A `$groupidentify` is about a group: its distinct id is made up by most libraries, and is nobody. person_id_at_ingest
-- stays, so that an erasure finds those that a person sent.
CREATE OR REPLACE VIEW millrace.events ON CLUSTER 'events' AS
SELECT
    e.uuid AS uuid,
    e.api_key AS api_key,
    e.event AS event,
    e.distinct_id AS distinct_id,
    if(e.event = '$groupidentify', toUUID('00000000-0000-0000-0000-000000000000'), ifNull(nullIf(o.person_id, toUUID('00000000-0000-0000-0000-000000000000')), e.person_id_at_ingest)) AS person_id,
    e.session_id AS session_id,
    e.session_id_uuid AS session_id_uuid,
    e.window_id AS window_id,
    e.window_id_uuid AS window_id_uuid,
    e.elements_chain AS elements_chain,
    e.timestamp AS timestamp,
    e.inserted_at AS inserted_at,
    e.ip AS ip,
    e.user_agent AS user_agent,
    e.current_url AS current_url,
    e.host AS host,
    e.properties AS properties,
    e.is_deleted AS is_deleted,
    e.source AS source,
    e.value AS value,
    e.original_timestamp AS original_timestamp,
    e.log_epoch AS log_epoch,
    e.log_topic AS log_topic,
    e.log_partition AS log_partition,
    e.log_offset AS log_offset,
    e.log_time AS log_time
FROM millrace.events_raw AS e
LEFT ANY JOIN millrace.person_overrides_now AS o ON e.person_id_at_ingest = o.own_person_id;

-- once
CREATE OR REPLACE VIEW millrace.person_distinct_ids ON CLUSTER 'events' AS
SELECT
    f.distinct_id AS distinct_id,
    ifNull(nullIf(any(o.person_id), toUUID('00000000-0000-0000-0000-000000000000')), f.own_person_id) AS person_id,
    min(f.first_at) AS created_at,
    toInt8(0) AS is_deleted,
    toInt64(ifNull(any(o.version), 0)) AS version
FROM
(
    SELECT distinct_id, person_id_at_ingest AS own_person_id, min(timestamp) AS first_at
    FROM millrace.events_raw
    WHERE distinct_id != '' AND event != '$groupidentify'
    GROUP BY distinct_id, person_id_at_ingest
    UNION ALL
    SELECT any(distinct_id) AS distinct_id, own_person_id, fromUnixTimestamp64Micro(min(first_us), 'UTC') AS first_at
    FROM millrace.identity_ids
    GROUP BY own_person_id
) AS f
LEFT ANY JOIN millrace.person_overrides_now AS o ON f.own_person_id = o.own_person_id
GROUP BY f.distinct_id, f.own_person_id;

-- once
-- Where each id is: a hash of 64 bits of the uuid, and the row's place on its topic, in the order of the hashes. It is a
-- part of the part whose rows it names, and comes, merges and goes with them (docs/decisions/ids-by-projection.md).
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' MODIFY SETTING lightweight_mutation_projection_mode = 'rebuild';

-- once
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' ADD PROJECTION IF NOT EXISTS by_id
(
    SELECT sipHash64(uuid), api_key, log_epoch, toUInt16(log_partition), log_offset
    GROUP BY sipHash64(uuid), api_key, log_epoch, toUInt16(log_partition), log_offset
);

-- once
-- Rows that are stored already get theirs in the background. Until then their parts are read whole.
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' MATERIALIZE PROJECTION by_id;

-- once
-- What each run of `millrace verify` found, for those who ask how everything is. Nothing is decided by it.
CREATE TABLE IF NOT EXISTS millrace.verify_runs ON CLUSTER 'events'
(
    ended_at DateTime64(3, 'UTC'),
    accounted UInt64,
    not_stored UInt64,
    missing UInt64,
    doubled UInt64,
    is_sound Bool
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/events/everywhere/millrace/verify_runs', '{shard}-{replica}')
ORDER BY ended_at
TTL toDateTime(ended_at) + INTERVAL 400 DAY
SETTINGS replicated_deduplication_window = 0;

-- once
-- How many events of a name came in each hour, as a part of the part whose rows it counts: it comes, merges and goes with
-- them, so that it cannot differ from them (docs/decisions/counts-by-projection.md).
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' ADD PROJECTION IF NOT EXISTS by_hour
(
    SELECT toStartOfHour(timestamp), event, is_deleted, count(), max(timestamp)
    GROUP BY toStartOfHour(timestamp), event, is_deleted
);

-- once
-- Rows that are stored already are counted in the background. Until then their parts are read whole.
ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' MATERIALIZE PROJECTION by_hour;

-- once
-- The id that Kafka gave the topic whose records have this epoch. Empty: recorded before ids were kept, or by brokers that
-- give none. A topic that is deleted and made again has another id (docs/decisions/epoch-of-topic-id.md).
ALTER TABLE millrace.log_epochs ON CLUSTER 'events' ADD COLUMN IF NOT EXISTS topic_id String DEFAULT '';
