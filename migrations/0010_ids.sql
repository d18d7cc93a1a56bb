-- Where each id is: a hash of 64 bits of the uuid, and the row's place on its topic, in the order of the hashes. It is a
-- part of the part whose rows it names, and comes, merges and goes with them (docs/decisions/ids-by-projection.md).
ALTER TABLE {{DATABASE}}.events_raw MODIFY SETTING lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE {{DATABASE}}.events_raw ADD PROJECTION IF NOT EXISTS by_id
(
    SELECT sipHash64(uuid), api_key, log_epoch, toUInt16(log_partition), log_offset
    GROUP BY sipHash64(uuid), api_key, log_epoch, toUInt16(log_partition), log_offset
);

-- Rows that are stored already get theirs in the background. Until then their parts are read whole.
ALTER TABLE {{DATABASE}}.events_raw MATERIALIZE PROJECTION by_id;
