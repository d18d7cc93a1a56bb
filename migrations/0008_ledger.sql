-- Which offsets arrived when: of each hour of the log's own time, the first offset that a consumer was given. Written
-- before the rows of that hour are. No TTL: after log and tables have let their records go, it still says from which
-- offset on the audit must find every one.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.log_hours
(
    log_epoch String,
    log_topic String,
    log_partition UInt32,
    hour DateTime('UTC'),
    first_offset SimpleAggregateFunction(min, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (log_epoch, log_topic, log_partition, hour);

-- Several migrations at once may each record an epoch of one topic: those of one generation are of the same moment, and
-- the first of them counts. Generation 0 is from before there were generations: of those the last counts.
ALTER TABLE {{DATABASE}}.log_epochs ADD COLUMN IF NOT EXISTS generation UInt32 DEFAULT 0;
