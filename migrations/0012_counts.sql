-- How many events of a name came in each hour, as a part of the part whose rows it counts: it comes, merges and goes with
-- them, so that it cannot differ from them (docs/decisions/counts-by-projection.md).
ALTER TABLE {{DATABASE}}.events_raw ADD PROJECTION IF NOT EXISTS by_hour
(
    SELECT toStartOfHour(timestamp), event, is_deleted, count(), max(timestamp)
    GROUP BY toStartOfHour(timestamp), event, is_deleted
);

-- Rows that are stored already are counted in the background. Until then their parts are read whole.
ALTER TABLE {{DATABASE}}.events_raw MATERIALIZE PROJECTION by_hour;
