-- The id that Kafka gave the topic whose records have this epoch. Empty: recorded before ids were kept, or by brokers that
-- give none. A topic that is deleted and made again has another id (docs/decisions/epoch-of-topic-id.md).
ALTER TABLE {{DATABASE}}.log_epochs ADD COLUMN IF NOT EXISTS topic_id String DEFAULT '';
