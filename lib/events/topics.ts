/** Topic of EventRecord values, keyed by routing key. */
export const EVENTS_TOPIC = "millrace.events";

/** Consumer group that lands the topics in ClickHouse. */
export const CONSUMER_GROUP = "millrace-consumer";

/** Topic of PointRecord values, keyed by relay id. */
export const POINTS_TOPIC = "millrace.points";
