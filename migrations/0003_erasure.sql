-- Persons that were erased: which ids, and how far. Kept for as long as the log, or a copy of it, may bring a record back.
-- No distinct id is in it: ids are own person ids, digests that a record's id can be compared with. One row an erasure,
-- the one with the highest version.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.erasures
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
ENGINE = ReplacingMergeTree(version)
ORDER BY erasure_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
