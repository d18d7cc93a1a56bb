-- Definitions of alerts: one row a version of a definition, of which the highest counts; read with FINAL. A deletion is the
-- row with the highest version there is: ids are never given twice, so nothing may follow it.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.alerts
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
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY alert_id
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What became of alerts: their changes of level, and what became of telling them. Nothing is updated. A change has one row
-- of kind 'transition' and, once that is known, one of kind 'delivered' or 'failed'; a change with neither is still to be
-- told. Ids follow from what happened, so a change that was written twice is one: read with FINAL.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.alert_events
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
ENGINE = ReplacingMergeTree
ORDER BY (alert_id, transition_id, kind)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
