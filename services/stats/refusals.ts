// Sentences that several of the service's APIs refuse a request with, each in one place.

export const FAILED = "the stats service failed; its log says more";
export const STOPPING = "the stats service is stopping";
export const CLICKHOUSE_AWAY = "ClickHouse cannot be asked now";
export const NO_PERSON = "person_id: is missing; give it, or distinct_id";
