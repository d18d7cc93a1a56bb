// Upper bounds on one event.

/** Bounds on one event. Byte counts are UTF-8. The gateway's settings may lower `eventBytes`, nothing raises the others. */
export interface EventLimits {
  eventNameBytes: number;
  distinctIdBytes: number;
  sourceBytes: number;
  /** The event's record on the log: below Kafka's default message.max.bytes (1,048,588) with room for key and headers. */
  eventBytes: number;
  /** Keys of the properties object at all levels together. */
  propertyKeys: number;
  /** Levels of objects and arrays, the properties object being the first. */
  propertyDepth: number;
}

/** Keys of an event outside its properties, those that are ignored included. */
export const EVENT_KEYS_MAX = 1000;

export const DEFAULT_LIMITS: EventLimits = {
  eventNameBytes: 200,
  distinctIdBytes: 1024,
  sourceBytes: 200,
  eventBytes: 900_000,
  propertyKeys: 1000,
  propertyDepth: 32,
};
