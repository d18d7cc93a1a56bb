// The event log as the services see it: an append-only, partitioned log that is durable before it says yes.
// Adapters: kafka.ts (Kafka, Redpanda) and sqlite.ts (one process). test/kit/eventlog-contract.ts holds both to this page.

/** A record on its way to the log. The adapter chooses the partition by `key` (murmur2, as Kafka's Java client does). */
export interface AppendRecord {
  key: Uint8Array;
  value: Uint8Array;
  /** W3C trace context of the request that brought it; kept beside the value, empty or absent when tracing is off. */
  traceparent?: string | undefined;
}

/** Offsets are int64 on the wire and safe integers here: 2^53 records a partition outlive any deployment. */
export interface Position {
  partition: number;
  offset: number;
}

export interface StoredRecord {
  offset: number;
  /** When the log took the record (Kafka: LogAppendTime), milliseconds since 1970. */
  appendTimeMs: number;
  key: Uint8Array;
  value: Uint8Array;
  traceparent?: string | undefined;
  /** Set of what nobody may read, with empty key and value: why. Its offset is accounted for like any other. */
  aborted?: string | undefined;
}

/** `offset` names the next record to process, as in Kafka. */
export interface Commit {
  offset: number;
  metadata: string;
}

export interface PartitionBounds {
  partition: number;
  /** Offset of the oldest record still on the log; equals `end` when there is none. */
  start: number;
  /** Offset that the next record will get. */
  end: number;
}

export interface ReadOptions {
  /** First offset wanted. */
  from: number;
  maxRecords: number;
  /** Bound on the sum of key and value bytes; one record is returned even if it alone exceeds it. */
  maxBytes: number;
  /** How long to wait for a first record; an empty array after that. */
  maxWaitMs: number;
}

/**
 * One partition handed to this process, until `lost` fires. All of its methods reject with AssignmentLostError after
 * that: what was read under one assignment can never be committed under another.
 */
export interface Assignment {
  readonly topic: string;
  readonly partition: number;
  /** Fires when the partition was revoked, or may have been. */
  readonly lost: AbortSignal;
  committed(): Promise<Commit | undefined>;
  commit(commit: Commit): Promise<void>;
  bounds(): Promise<PartitionBounds>;
  /**
   * As `LogReader.topicId`, of the topic that is read. Rejects when another one has taken its place, which ends the
   * assignment.
   */
  topicId(): Promise<string | undefined>;
  /** Records with consecutive offsets beginning exactly at `from`. Rejects with OffsetOutOfRangeError, never skips. */
  read(options: ReadOptions): Promise<StoredRecord[]>;
}

export interface ConsumeOptions {
  topic: string;
  group: string;
  /**
   * Called once for each assigned partition; several run side by side. Resolves after `lost` fired and everything in
   * flight has ended: the adapter waits for it (bounded) before it lets the partition go. A rejection other than
   * AssignmentLostError ends `consume` with it.
   */
  onAssigned(assignment: Assignment): Promise<void>;
  /** Leaves the group, revokes every assignment and resolves `consume`. */
  signal: AbortSignal;
}

/** Of an append's records at `indexes` the outcome is known now: where each is, or why it is not known to be durable. */
export type OnSettled = (indexes: readonly number[], outcomes: readonly (Position | Error)[]) => void;

/** What services do with a log: put records in, and be handed partitions. */
export interface EventLog {
  /** What traces call it: messaging.system of OpenTelemetry. */
  readonly system: string;
  /**
   * Resolves with one position per record, in their order, when all are durable. Records with equal keys keep their
   * order within a partition. On rejection nothing is known about any of them (LogUnavailableError: try again later;
   * RecordTooLargeError: never), unless it is a PartialAppendError, which says so record by record.
   *
   * A log that `pipelines` calls `onSettled` for each part of the records as soon as its fate is known, with the outcomes
   * of all records by index, of which those of other parts may still be absent.
   */
  append(
    topic: string,
    records: readonly AppendRecord[],
    signal?: AbortSignal,
    onSettled?: OnSettled,
  ): Promise<Position[]>;
  /** Appends may be under way side by side, and are no slower for it. Absent: one after the other. */
  readonly pipelines?: boolean;
  consume(options: ConsumeOptions): Promise<void>;
  /** Resolves when an append can succeed right now; rejects with LogUnavailableError and the reason. */
  check(): Promise<void>;
}

/** Looks at a log without a group and without changing it, also while other processes write and consume. */
export interface LogReader {
  /** As `Assignment.read`. */
  tail(topic: string, partition: number, options: ReadOptions): Promise<StoredRecord[]>;
  bounds(topic: string): Promise<PartitionBounds[]>;
  /** By partition; a partition without a commit is absent. */
  committed(topic: string, group: string): Promise<Map<number, Commit>>;
  /**
   * Identity of this incarnation of the log, if the log itself keeps one (SQLite: made with the file). Undefined: epochs are
   * recorded in ClickHouse, for each topic (Kafka).
   */
  epoch(): Promise<string | undefined>;
  /** Another one for each topic that is made, also under a name that was used before. Undefined: the log gives none. */
  topicId(topic: string): Promise<string | undefined>;
}

export interface LogAdmin {
  /**
   * Creates missing topics and says which of them it made; idempotent, safe to run in parallel. Rejects with UnfitTopicError
   * when one was there before and cannot be used.
   */
  createTopics(topics: readonly TopicSpec[]): Promise<string[]>;
  /** Removes records below `before`. */
  trim(topic: string, partition: number, before: number): Promise<void>;
}

/** A log as its adapter opens it. Disposing waits, for a bounded time, for what is under way. */
export interface OpenLog extends EventLog, LogReader, LogAdmin, AsyncDisposable {}

export interface TopicSpec {
  topic: string;
  partitions: number;
}

/** The log is away, slow or refused for now: retry. Carries a remedy a person can act on in its message. */
export class LogUnavailableError extends Error {
  override readonly name = "LogUnavailableError";
}

/** A topic that was there before has settings with which it cannot be used; the message says which and what to do. */
export class UnfitTopicError extends Error {
  override readonly name = "UnfitTopicError";
}

/** One record is larger than the log takes. */
export class RecordTooLargeError extends Error {
  override readonly name = "RecordTooLargeError";
}

/** The partition belongs, or may belong, to another process now. */
export class AssignmentLostError extends Error {
  override readonly name = "AssignmentLostError";
}

/** The wanted offset is no longer, or not yet, on the log: it was trimmed, wiped or refilled. */
export class OffsetOutOfRangeError extends Error {
  override readonly name = "OffsetOutOfRangeError";
  /** Records before and after it are on the log: the topic is compacted, or written in transactions. */
  readonly isHole: boolean;

  constructor(message: string, { isHole = false, ...options }: ErrorOptions & { isHole?: boolean } = {}) {
    super(message, options);
    this.isHole = isHole;
  }
}
