// AlertService: messages to definitions and back, failures to Connect codes.
import { create } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  type AlertDefinition as AlertDefinitionMessage,
  AlertLevel,
  AlertOperator,
  AlertSchema,
  type AlertService,
  NoDataRule,
} from "#gen/millrace/stats/v1/alerts_pb.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import { quoted } from "#lib/process/printable.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Alert, AlertDefinition } from "./alert.ts";
import { checkDefinition, type DefinitionRules } from "./parse.ts";
import { readPage, transitionMessage } from "./rpc-history.ts";
import { type AlertStore, AlertStoreError, type AlertStoreErrorKind, type StoredAlert } from "./store.ts";
import type { ReadHistory } from "./store-history.ts";
import { WebhookError } from "./webhook.ts";
import { WARNING_HEADER } from "./webhook-address.ts";

export interface AlertServiceOptions {
  store: AlertStore;
  history: ReadHistory;
  rules: DefinitionRules;
  /** What is to be said of an alert's address, although the alert is taken. */
  warningOf(post: string): Promise<string | undefined>;
  /** Sends a message marked as a test. Resolves with the receiver's 2xx status, rejects with WebhookError. */
  testFire(alert: Alert, signal: AbortSignal): Promise<{ status: number }>;
}

const LEVEL_WORDS: Readonly<Record<number, string>> = {
  [AlertLevel.UNSPECIFIED]: "crit",
  [AlertLevel.INFO]: "info",
  [AlertLevel.WARN]: "warn",
  [AlertLevel.CRIT]: "crit",
  [AlertLevel.OK]: "ok",
};
const OPERATOR_WORDS: Readonly<Record<number, string>> = {
  [AlertOperator.UNSPECIFIED]: "gt",
  [AlertOperator.GT]: "gt",
  [AlertOperator.GE]: "ge",
  [AlertOperator.LT]: "lt",
  [AlertOperator.LE]: "le",
  [AlertOperator.EQ]: "eq",
  [AlertOperator.NE]: "ne",
};
const NO_DATA_WORDS: Readonly<Record<number, string>> = {
  [NoDataRule.UNSPECIFIED]: "keep",
  [NoDataRule.KEEP]: "keep",
  [NoDataRule.BREACH]: "breach",
};
const LEVELS = { info: AlertLevel.INFO, warn: AlertLevel.WARN, crit: AlertLevel.CRIT };
const OPERATORS = {
  ...{ gt: AlertOperator.GT, ge: AlertOperator.GE, lt: AlertOperator.LT },
  ...{ le: AlertOperator.LE, eq: AlertOperator.EQ, ne: AlertOperator.NE },
};
const NO_DATA_RULES = { keep: NoDataRule.KEEP, breach: NoDataRule.BREACH };

const STORE_CODES: Readonly<Record<AlertStoreErrorKind, Code>> = {
  not_found: Code.NotFound,
  conflict: Code.Aborted,
  full: Code.ResourceExhausted,
};

/** Methods reject with ConnectError; any other error is a fault of the service. */
export function createAlertService({
  store,
  history,
  rules,
  warningOf,
  testFire,
}: AlertServiceOptions): ServiceImpl<typeof AlertService> {
  async function taken(alert: StoredAlert, headers: Headers) {
    const warning = await warningOf(alert.post);
    if (warning !== undefined) headers.set(WARNING_HEADER, warning);
    return { alert: alertMessage(alert) };
  }

  async function existing(id: string): Promise<StoredAlert> {
    const alert = await store.get(id);
    if (!alert) throw new ConnectError(`id: there is no alert ${quoted(id)}`, Code.NotFound);
    return alert;
  }

  return {
    createAlert: ({ definition }, { responseHeader }) =>
      answered(async () => taken(await store.create(readDefinition(definition, rules)), responseHeader)),
    getAlert: ({ id }) => answered(async () => ({ alert: alertMessage(await existing(id)) })),
    listAlerts: () => answered(async () => ({ alerts: (await store.list()).map(alertMessage) })),
    updateAlert: ({ id, definition, version }, { responseHeader }) =>
      answered(async () => {
        const asked = version === 0n ? undefined : Number(version);
        return taken(await store.update(id, readDefinition(definition, rules), asked), responseHeader);
      }),
    deleteAlert: ({ id }) =>
      answered(async () => {
        await store.delete(id);
        return {};
      }),
    testFire: ({ id }, { signal }) =>
      answered(async () => {
        const alert = await existing(id);
        try {
          return { httpStatus: (await testFire(alert, signal)).status };
        } catch (error) {
          // What is wrong with the receiver is what the caller wanted to know.
          if (error instanceof WebhookError) return { httpStatus: error.status ?? 0, error: error.message };
          throw error;
        }
      }),
    listTransitions: (request) =>
      answered(async () => {
        const { page, tokenAfter } = readPage(request);
        const entries = await history(page);
        const nextPageToken = tokenAfter(entries);
        return { transitions: entries.slice(0, page.count - 1).map(transitionMessage), nextPageToken };
      }),
  };
}

async function answered<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AlertStoreError) throw new ConnectError(error.message, STORE_CODES[error.kind]);
    if (error instanceof WarehouseError && error.kind === "transient") {
      const retryAfter = { "retry-after": String(RETRY_AFTER_SECONDS.alert) };
      throw new ConnectError(
        "ClickHouse cannot be used now; try again",
        Code.Unavailable,
        retryAfter,
        undefined,
        error,
      );
    }
    throw error;
  }
}

function readDefinition(message: AlertDefinitionMessage | undefined, rules: DefinitionRules): AlertDefinition {
  const { level = 0, operator = 0, noData = 0, threshold, duration } = message ?? {};
  const word = OPERATOR_WORDS[operator];
  const checked = checkDefinition(
    {
      metric: message?.metric,
      tags: message?.tags,
      level: LEVEL_WORDS[level] ?? String(level),
      operator: word,
      threshold,
      duration: duration && msOf(duration),
      post: message?.post,
      groupBy: message?.groupBy,
      noData: NO_DATA_WORDS[noData] ?? String(noData),
    },
    rules,
  );
  const faults = "faults" in checked ? checked.faults.map(({ field, message: text }) => `${field}: ${text}`) : [];
  if (word === undefined) faults.push(`operator: ${operator} is not an operator; send one of AlertOperator`);
  if ("definition" in checked && faults.length === 0) return checked.definition;
  throw new ConnectError(faults.map((fault) => `definition.${fault}`).join("; "), Code.InvalidArgument);
}

function msOf({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}

function alertMessage(alert: StoredAlert) {
  const { id, metric, tags, level, operator, threshold, durationMs, post, groupBy, noData } = alert;
  return create(AlertSchema, {
    id,
    definition: {
      ...{ metric, tags, threshold, post, groupBy: [...groupBy] },
      level: LEVELS[level],
      operator: OPERATORS[operator],
      duration: durationFromMs(durationMs),
      noData: NO_DATA_RULES[noData],
    },
    version: BigInt(alert.version),
    createTime: timestampFromMs(alert.createdAtMs),
    updateTime: timestampFromMs(alert.updatedAtMs),
  });
}
