// Answers as protobuf's JSON has them: 64-bit numbers are text, what is empty or zero is absent.

export interface EventNames {
  names?: { event?: string; count?: string; lastTime?: string }[];
  totalEvents?: string;
  totalNames?: string;
}

export interface Trend {
  interval?: string;
  times?: string[];
  series?: { value?: string; isRest?: boolean; total?: string; counts?: string[] }[];
  sampledOneIn?: number;
}

export interface StoredEvent {
  id: string;
  event?: string;
  distinctId?: string;
  personIdAtIngest?: string;
  time: string;
  receiveTime?: string;
  propertiesJson?: string;
  source?: string;
  value?: number | string;
  logPartition?: number;
  logOffset?: string;
}

export interface Events {
  events?: StoredEvent[];
  nextPageToken?: string;
}

export interface Properties {
  totalEvents?: string;
  sampledEvents?: string;
  properties?: { key?: string; events?: string; types?: string[]; exampleJson?: string }[];
}

export interface PersonEntry {
  distinctId?: string;
  personId: string;
  lastTime?: string;
  isIdentified?: boolean;
}

export interface Person {
  personId: string;
  distinctIds?: string[];
  isIdentified?: boolean;
  propertiesJson?: string;
  firstTime?: string;
  lastTime?: string;
}

export interface DeadLetter {
  position: string;
  logTime: string;
  errorClass?: string;
  error?: string;
  bytes?: string;
  text?: string;
}

export interface DeadLetters {
  classes?: { errorClass?: string; count?: string; lastTime?: string }[];
  letters?: DeadLetter[];
  nextPageToken?: string;
}

export interface Position {
  name?: string;
  partition?: number;
  offset?: string;
}

export interface EventView {
  id?: string;
  event?: string;
  distinctId?: string;
  source?: string;
  value?: number | string;
  time?: string;
  propertiesJson?: string;
  isCut?: boolean;
}

export interface Sighting {
  state?: string;
  position?: Position;
  received?: string;
  appended?: string;
  stored?: string;
  latency?: string;
  event?: EventView;
  waiting?: { nextOffset?: string; recordsAhead?: string; reason?: string };
  first?: Position;
  letter?: { errorClass?: string; reason?: string; replay?: string };
  erasureId?: string;
}

export interface Receipt {
  id?: string;
  state?: string;
  text?: string;
  sightings?: Sighting[];
  refusals?: { reason?: string; field?: string; event?: string; time?: string; retryable?: boolean }[];
  since?: string;
  gaps?: string[];
}

export interface ReplayAnswer {
  replayed?: number;
  stored?: number;
  notReplayable?: number;
  failed?: number;
  lines?: string[];
}

export interface Status {
  time?: string;
  problems?: { name?: string; severity?: string; text?: string; remedy?: string; since?: string }[];
  topics?: {
    topic?: string;
    inPerSecond?: number;
    storedPerSecond?: number;
    waiting?: string;
    behind?: string;
    newestRow?: string;
  }[];
  refusals?: { reason?: string; lastHour?: string; newest?: string }[];
  deadLetters?: { total?: string; lastHour?: string; newestClass?: string; newest?: string };
  lastVerify?: { time?: string; isProven?: boolean; missing?: string; doubled?: string };
  disks?: { name?: string; freeBytes?: string; totalBytes?: string }[];
  versions?: { name?: string; part?: string; version?: string }[];
  gaps?: string[];
}

export interface TailEvent {
  position?: Position;
  event?: EventView;
  received?: string;
  appended?: string;
  isStored?: boolean;
}

export interface TailMessage {
  status?: { state?: string; reason?: string; shown?: string; passedOver?: string; skippedRecords?: string };
  events?: TailEvent[];
  stored?: { partition?: number; nextOffset?: string }[];
}

export interface SeriesAnswer {
  series?: { tags?: Record<string, string>; windows?: { time: string; values?: (number | string)[] }[] }[];
}

export interface Alerts {
  alerts?: {
    id: string;
    definition?: { metric?: string; level?: string; operator?: string; threshold?: number | string; duration?: string };
  }[];
}

export interface Transitions {
  transitions?: {
    id: string;
    alertId?: string;
    metric?: string;
    group?: Record<string, string>;
    level?: string;
    previousLevel?: string;
    value?: number | string;
    time?: string;
    delivery?: { state?: string; error?: string };
  }[];
}
