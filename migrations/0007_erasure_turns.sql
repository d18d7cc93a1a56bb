-- Who erases a person: one at a time in a database, since erasures that overlap would take the ground from under each
-- other's clock (identity_edges). Rows are signs of life of a turn; the newest count. Who wants a turn adds a row and then
-- looks: nobody else is there, or it steps back. Of two that come at once each sees the other, or only one of them does.
CREATE TABLE IF NOT EXISTS {{DATABASE}}.erasure_turns
(
    turn_id UUID,
    -- The server's time, so that nobody's clock has to be right.
    seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    is_over UInt8
)
ENGINE = MergeTree
ORDER BY seen_at
TTL toDateTime(seen_at) + INTERVAL 1 DAY;
