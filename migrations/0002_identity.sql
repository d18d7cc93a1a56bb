-- Who is who. Facts as events said them, then what was made of them, then the views that show people.
-- An id is named by its own person id (a digest of the distinct id, the same as events_raw.person_id_at_ingest): 16 bytes,
-- however long the distinct id is.

-- Who said that two ids are one person, or that an id is identified (then `other` may be the nil UUID). Each edge twice,
-- under both of its ids. A set: an edge stored again changes nothing. The number of rows is the version of
-- person_overrides, so it must never fall: whoever deletes rows adds more than as many of kind 'erased' under the nil
-- UUID, before and again afterwards.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.identity_edges
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
ENGINE = MergeTree
ORDER BY (own_person_id, time_us)
SETTINGS index_granularity = 512, fsync_after_insert = 1, fsync_part_directory = 1;

-- Distinct ids that identity facts name. has_profile: it was identified, or properties were set on it.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.identity_ids
(
    own_person_id UUID,
    distinct_id SimpleAggregateFunction(any, String),
    is_identified SimpleAggregateFunction(max, UInt8),
    has_profile SimpleAggregateFunction(max, UInt8),
    first_us SimpleAggregateFunction(min, Int64),
    last_us SimpleAggregateFunction(max, Int64)
)
ENGINE = AggregatingMergeTree
ORDER BY own_person_id
SETTINGS index_granularity = 512, fsync_after_insert = 1, fsync_part_directory = 1;

-- Properties set on an id, by key. Both states are texts that sort as what they stand for, since texts are compared faster
-- than tuples: 17 digits of event time in microseconds, 36 characters of event id, then
-- last_write: '0' for a set and '1' for an unset, the value; the latest counts, '' is none.
-- first_once: the value of a set_once; the earliest counts, '~' is none.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.identity_properties
(
    own_person_id UUID,
    key String,
    last_write SimpleAggregateFunction(max, String),
    first_once SimpleAggregateFunction(min, String)
)
ENGINE = AggregatingMergeTree
ORDER BY (own_person_id, key)
SETTINGS index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- Person of an id that edges name; its own person id when it stands for itself.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.person_overrides
(
    own_person_id UUID,
    person_id UUID,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY own_person_id
SETTINGS index_granularity = 512;

-- First offset whose edges are not yet in person_overrides. Edges of lower offsets are.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.identity_progress
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    next_offset UInt64,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (log_epoch, log_topic, log_partition);

-- Ids that stand for another.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.person_overrides_now AS
SELECT own_person_id, person_id, version
FROM {{DATABASE}}.person_overrides FINAL
WHERE person_id != own_person_id;

-- Event data as analysts read it: person_id is the person of today.
CREATE OR REPLACE VIEW {{DATABASE}}.events AS
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
FROM {{DATABASE}}.events_raw AS e
LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON e.person_id_at_ingest = o.own_person_id;

-- One row a person that was identified or has properties; distinct_id is the one the person is named after.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.persons AS
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
    FROM {{DATABASE}}.identity_ids AS f
    LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON f.own_person_id = o.own_person_id
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
        FROM {{DATABASE}}.identity_properties AS f
        LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON f.own_person_id = o.own_person_id
        GROUP BY person, key
        HAVING is_set OR (first != '~' AND left(first, 53) > left(latest, 53))
    )
    GROUP BY person
) AS p ON i.person = p.person;

-- Every distinct id that an event carried or an identity fact named, with its person of today.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.person_distinct_ids AS
SELECT
    f.distinct_id AS distinct_id,
    ifNull(nullIf(any(o.person_id), toUUID('00000000-0000-0000-0000-000000000000')), f.own_person_id) AS person_id,
    min(f.first_at) AS created_at,
    toInt8(0) AS is_deleted,
    toInt64(ifNull(any(o.version), 0)) AS version
FROM
(
    SELECT distinct_id, person_id_at_ingest AS own_person_id, min(timestamp) AS first_at
    FROM {{DATABASE}}.events_raw
    WHERE distinct_id != ''
    GROUP BY distinct_id, person_id_at_ingest
    UNION ALL
    SELECT any(distinct_id) AS distinct_id, own_person_id, fromUnixTimestamp64Micro(min(first_us), 'UTC') AS first_at
    FROM {{DATABASE}}.identity_ids
    GROUP BY own_person_id
) AS f
LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON f.own_person_id = o.own_person_id
GROUP BY f.distinct_id, f.own_person_id;

-- One row a session of an api key. URLs are those of the events that carry one, and '' for those that carry none.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.sessions AS
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
FROM {{DATABASE}}.events AS e
WHERE e.session_id != '' AND e.is_deleted = 0
GROUP BY e.api_key, e.session_id;
