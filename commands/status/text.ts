// A status as people read it: problems first, then a line a subject.
import { type Duration, timestampMs } from "@bufbuild/protobuf/wkt";
import type { GetStatusResponse, TopicStatus } from "#gen/millrace/stats/v1/status_pb.ts";
import { printable } from "#lib/process/printable.ts";

export function statusText(status: GetStatusResponse): string {
  const nowMs = status.time === undefined ? Date.now() : timestampMs(status.time);
  const problems = status.problems.flatMap(({ text, remedy }) => [`! ${text}`, `  ${remedy}`]);
  const lines = [
    ...(problems.length > 0 ? problems : ["All is well."]),
    "",
    ...status.topics.map((topic) => `${nameOf(topic.topic).padEnd(13)} ${topicText(topic, nowMs)}`),
    ...batchLines(status),
    `refused       ${refusalsText(status)}`,
    ...(status.deadLetters ? [`dead letters  ${lettersText(status)}`] : []),
    `verify        ${verifyText(status, nowMs)}`,
    ...(status.disks.length > 0 ? [`disk          ${disksText(status)}`] : []),
    `versions      ${status.versions.map(({ part, version }) => `${part} ${version}`).join(", ")}`,
    ...status.gaps.map((gap) => `not known     ${gap}`),
  ];
  return `${lines.map(printable).join("\n")}\n`;
}

function nameOf(topic: string): string {
  return topic.replace(/^millrace\./, "");
}

function topicText({ inPerSecond, storedPerSecond, waiting, behind, newestRow }: TopicStatus, nowMs: number): string {
  const rate = (perSecond: number | undefined) =>
    perSecond === undefined ? "?" : perSecond.toFixed(perSecond < 10 ? 1 : 0);
  const newest = newestRow === undefined ? "no row yet" : `newest row ${ageText(nowMs - timestampMs(newestRow))} old`;
  const wait =
    waiting === 0n ? "none waits" : `${waiting?.toLocaleString("en-US") ?? "?"} wait, ${secondsText(behind)} behind`;
  return `${rate(inPerSecond)}/s in, ${rate(storedPerSecond)}/s stored; ${wait}; ${newest}`;
}

const WAIT_REASONS: Readonly<Record<string, string>> = {
  idle: "ClickHouse is idle",
  inserts: "so that about one insert is under way at a time",
  parts: "so that ClickHouse can merge its parts",
  busy: "ClickHouse has refused an insert because it is too busy",
};

function batchLines({ topics }: GetStatusResponse): string[] {
  const known = topics.filter(({ batchWait }) => batchWait !== undefined);
  if (known.length === 0) return [];
  const text = known.map(({ topic, batchWait, batchWaitReason: reason }) => {
    const ms = Math.round(Number(batchWait?.seconds) * 1000 + Number(batchWait?.nanos) / 1e6);
    return `${nameOf(topic)} wait ${ms} ms for more, ${WAIT_REASONS[reason] ?? reason}`;
  });
  return [`batches       ${text.join("; ")}`];
}

function refusalsText({ refusals }: GetStatusResponse): string {
  if (refusals.length === 0) return "nothing in the last hour";
  return `${refusals.map(({ reason, lastHour }) => `${lastHour} ${reason}`).join(", ")} in the last hour`;
}

function lettersText({ deadLetters }: GetStatusResponse): string {
  const { total = 0n, lastHour = 0n, newestClass = "" } = deadLetters ?? {};
  return total === 0n ? "none" : `${total}, ${lastHour} of them in the last hour, the newest ${newestClass}`;
}

function verifyText({ lastVerify }: GetStatusResponse, nowMs: number): string {
  if (!lastVerify?.time) return "not run yet: `millrace verify` proves that nothing is lost or doubled";
  const age = ageText(nowMs - timestampMs(lastVerify.time));
  return lastVerify.isProven
    ? `nothing lost or doubled, ${age} ago`
    : `${lastVerify.missing} missing, ${lastVerify.doubled} doubled, ${age} ago`;
}

function disksText({ disks }: GetStatusResponse): string {
  const gigabytes = (bytes: bigint) => `${(Number(bytes) / 1e9).toFixed(1)} GB`;
  return disks
    .map(({ name, freeBytes, totalBytes }) => `${name} ${gigabytes(freeBytes)} of ${gigabytes(totalBytes)} free`)
    .join(", ");
}

function secondsText(duration: Duration | undefined): string {
  return duration === undefined ? "?" : ageText(Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}

function ageText(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
