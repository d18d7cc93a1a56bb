// What an alert is, whatever route it came by. Rules of its fields: section 2.1 of pulse's API.

export const ALERT_LEVELS = ["info", "warn", "crit"] as const;
export type AlertLevel = (typeof ALERT_LEVELS)[number];

export const ALERT_OPERATORS = ["gt", "ge", "lt", "le", "eq", "ne"] as const;
export type AlertOperator = (typeof ALERT_OPERATORS)[number];

/** What to say of a series without points in the window: keep the state as it is, or take silence as a breach. */
export const NO_DATA_RULES = ["keep", "breach"] as const;
export type NoDataRule = (typeof NO_DATA_RULES)[number];

export interface Alert {
  /** UUID; made by the service. */
  readonly id: string;
  /** A point counts when it has all of these. */
  readonly tags: Readonly<Record<string, string>>;
  readonly metric: string;
  readonly level: AlertLevel;
  readonly operator: AlertOperator;
  /** As the caller wrote it: "" stands for gt and must be answered as "". */
  readonly operatorText: string;
  readonly threshold: number;
  /** Whether the caller wrote the threshold as text, and is to read it so. */
  readonly thresholdText: string | undefined;
  /** Averaging window in milliseconds, counted by arrival. */
  readonly durationMs: number;
  /** As the caller wrote it, such as "5m". */
  readonly durationText: string;
  /** Webhook: an http or https address. */
  readonly post: string;
  /** Tag names: each combination of their values has a state of its own. Empty: one state over all points. */
  readonly groupBy: readonly string[];
  readonly noData: NoDataRule;
  /** Grows with each change, so that an evaluation knows which definition it read. */
  readonly version: number;
}

/** What a caller says of an alert; the rest is the service's. */
export type AlertDefinition = Omit<Alert, "id" | "version">;
