// What the command prints: nothing of it is a person's own text, only ids, counts and times.
import type { LogRetention } from "#lib/eventlog/retention.ts";
import { type Certificate, isClean, remainUntilMs } from "#lib/identity/erasure/certificate.ts";
import type { Preview } from "#lib/identity/erasure/preview.ts";

const IDS_SHOWN_MAX = 20;

export function previewText({ person, events, deadLetters, namedIds }: Preview): string {
  return `${[
    `person ${person.id}: ${events} events, ${deadLetters} dead letters, ${namedIds} distinct ids that identity facts name`,
    ...idLines(person.ownIds),
  ].join("\n")}\n`;
}

export function previewJson(preview: Preview): string {
  return jsonText({ ...preview });
}

/** Ends with the one line that says it all. */
export function certificateText(certificate: Certificate, retention: LogRetention): string {
  const { erasure, erased, checks } = certificate;
  const finished = erasure.finishedAtMs === undefined ? "not finished" : `finished ${timeText(erasure.finishedAtMs)}`;
  const width = Math.max(...checks.map(({ count }) => String(count).length));
  const lines = [
    `erasure ${erasure.id} of person ${erasure.personId}`,
    `asked for ${timeText(erasure.requestedAtMs)}, ${finished}; ${erased} events and dead letters`,
    ...idLines(erasure.ownIds),
    "what is left, and how to ask again:",
    ...checks.map(({ what, query, count }) => {
      const told = `  ${String(count).padStart(width)}  ${what}`;
      return query === undefined ? told : `${told}\n      ${query}`;
    }),
    ...remainsLines(certificate, retention),
    "not looked at: backups, copies elsewhere, what others said about the person in events of their own; parts of tables",
    "that were replaced stay on ClickHouse's disk for old_parts_lifetime (8 minutes unless set)",
  ];
  const left = checks.filter(({ count }) => count > 0).length;
  lines.push(
    left === 0
      ? "persons: nothing is left"
      : `persons: ${left} of ${checks.length} checks found something: run it again`,
  );
  return `${lines.join("\n")}\n`;
}

export function certificateJson(certificate: Certificate, retention: LogRetention): string {
  const { erasure, erased, checks, remains } = certificate;
  const untilMs = remainUntilMs(certificate, retention);
  return jsonText({
    clean: isClean(certificate),
    ...{ erasure: erasure.id, person: erasure.personId, ownIds: erasure.ownIds },
    ...{ requestedAt: timeText(erasure.requestedAtMs), erased, checks },
    remains: remains.map(({ newestAtMs, ...range }) => ({ ...range, newestAt: timeText(newestAtMs) })),
    finishedAt: erasure.finishedAtMs === undefined ? null : timeText(erasure.finishedAtMs),
    remainsUntil: untilMs === undefined ? null : timeText(untilMs),
    remainsWhy: remains.length === 0 ? null : retention.why,
  });
}

function remainsLines(certificate: Certificate, retention: LogRetention): string[] {
  const { remains, erasure } = certificate;
  if (remains.length === 0) return ["on the log: none of the records that may be the person's"];
  const untilMs = remainUntilMs(certificate, retention);
  const when = untilMs === undefined ? retention.why : `until ${timeText(untilMs)} at the latest (${retention.why})`;
  return [
    `on the log ${when}: the person's records, which nothing stores again, among these of ${erasure.topic}`,
    ...remains.map(({ partition, from, to, newestAtMs }) => {
      return `  partition ${partition}, offsets ${from} to ${to}, the newest of ${timeText(newestAtMs)}`;
    }),
  ];
}

function idLines(ownIds: readonly string[]): string[] {
  const more = ownIds.length - IDS_SHOWN_MAX;
  return [
    `${ownIds.length} ${ownIds.length === 1 ? "id" : "ids"}, as person_id_at_ingest has them:`,
    ...ownIds.slice(0, IDS_SHOWN_MAX).map((id) => `  ${id}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

function jsonText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
