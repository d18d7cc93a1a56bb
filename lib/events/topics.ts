// Names of the topics and consumer groups.

/** Topic of EventRecord values, keyed by routing key. */
export const EVENTS_TOPIC = "millrace.events";

/** Consumer group that lands events in ClickHouse. */
export const CONSUMER_GROUP = "millrace-consumer";

/** Topic of PointRecord values, keyed by relay id. */
export const POINTS_TOPIC = "millrace.points";

/** Consumer group that lands points. Not that of events: all members of a group must consume the same topics. */
export const POINTS_GROUP = "millrace-consumer-points";

/** Topic of one partition and no records: the holder of its partition evaluates alerts. */
export const ALERTS_TOPIC = "millrace.alerts";

/** Consumer group of the copies that can evaluate alerts. */
export const ALERTS_GROUP = "millrace-alerts";
