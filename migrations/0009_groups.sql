-- Groups (companies, teams, projects), as PostHog's libraries know them: what `$groupidentify` events say about them, and
-- which groups other events name in `$groups`. Written with the identity facts, before the rows' range is committed; a
-- fact stored again changes nothing. No TTL: they are small, and outlive the events they came from.

-- Groups that events name.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.group_keys
(
    group_type String,
    group_key String,
    first_us SimpleAggregateFunction(min, Int64),
    last_us SimpleAggregateFunction(max, Int64)
)
ENGINE = AggregatingMergeTree
ORDER BY (group_type, group_key)
SETTINGS index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- Properties of a group, by key. last_write as in identity_properties: 17 digits of event time, the event's id, '0', the
-- value; the latest counts.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.group_properties
(
    group_type String,
    group_key String,
    key String,
    last_write SimpleAggregateFunction(max, String)
)
ENGINE = AggregatingMergeTree
ORDER BY (group_type, group_key, key)
SETTINGS index_granularity = 1024, fsync_after_insert = 1, fsync_part_directory = 1;

-- One row a group.
CREATE VIEW IF NOT EXISTS {{DATABASE}}.groups AS
SELECT
    k.group_type AS type,
    k.group_key AS key,
    ifNull(nullIf(p.properties, ''), '{}') AS properties,
    fromUnixTimestamp64Micro(k.first_us, 'UTC') AS created_at,
    fromUnixTimestamp64Micro(k.last_us, 'UTC') AS updated_at
FROM
(
    SELECT group_type, group_key, min(first_us) AS first_us, max(last_us) AS last_us
    FROM {{DATABASE}}.group_keys
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
        FROM {{DATABASE}}.group_properties
        GROUP BY group_type, group_key, key
    )
    GROUP BY group_type, group_key
) AS p ON k.group_type = p.group_type AND k.group_key = p.group_key;

-- A `$groupidentify` is about a group: its distinct id is made up by most libraries, and is nobody. person_id_at_ingest
-- stays, so that an erasure finds those that a person sent.
CREATE OR REPLACE VIEW {{DATABASE}}.events AS
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
FROM {{DATABASE}}.events_raw AS e
LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON e.person_id_at_ingest = o.own_person_id;

CREATE OR REPLACE VIEW {{DATABASE}}.person_distinct_ids AS
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
    WHERE distinct_id != '' AND event != '$groupidentify'
    GROUP BY distinct_id, person_id_at_ingest
    UNION ALL
    SELECT any(distinct_id) AS distinct_id, own_person_id, fromUnixTimestamp64Micro(min(first_us), 'UTC') AS first_at
    FROM {{DATABASE}}.identity_ids
    GROUP BY own_person_id
) AS f
LEFT ANY JOIN {{DATABASE}}.person_overrides_now AS o ON f.own_person_id = o.own_person_id
GROUP BY f.distinct_id, f.own_person_id;
