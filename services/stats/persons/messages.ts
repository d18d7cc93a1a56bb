// What is found of a person, and what becomes of it, as messages of PersonService.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type CertificateSchema,
  type DeleteResponse,
  DeleteResponseSchema,
  type PersonIdsSchema,
  Step,
} from "#gen/millrace/identity/v1/persons_pb.ts";
import type { LogRetention } from "#lib/eventlog/retention.ts";
import { type Certificate, isClean, remainUntilMs } from "#lib/identity/erasure/certificate.ts";
import type { Found } from "#lib/identity/erasure/delete-person.ts";
import type { DeletionProgress } from "./deletions.ts";

/** A person may have a million. */
const OWN_IDS_MAX = 1_000;

const STEPS: Readonly<Record<DeletionProgress["step"], Step>> = {
  "wait for turn": Step.WAITING_FOR_TURN,
  hide: Step.HIDING,
  wait: Step.WAITING_FOR_CONSUMER,
  "erase again": Step.ERASING_AGAIN,
  "rewrite files": Step.REWRITING_FILES,
  "compute roll-up": Step.COMPUTING_ROLLUP,
  certify: Step.CERTIFYING,
};

export function previewMessage({ preview, unfinished }: Found): DeleteResponse {
  const value = {
    person: idsOf(preview.person.id, preview.person.ownIds),
    events: BigInt(preview.events),
    deadLetters: BigInt(preview.deadLetters),
    namedIds: BigInt(preview.namedIds),
    unfinishedErasureId: unfinished?.id ?? "",
  };
  return create(DeleteResponseSchema, { answer: { case: "preview", value } });
}

export function progressMessage({ step, behind }: DeletionProgress): DeleteResponse {
  const value = {
    step: STEPS[step],
    behind: behind.map(({ partition, next, end }) => {
      return { partition, nextOffset: BigInt(next), endOffset: BigInt(end) };
    }),
  };
  return create(DeleteResponseSchema, { answer: { case: "progress", value } });
}

export function certificateMessage(certificate: Certificate, retention: LogRetention): DeleteResponse {
  const { erasure, erased, checks, remains } = certificate;
  const untilMs = remainUntilMs(certificate, retention);
  const value: MessageInitShape<typeof CertificateSchema> = {
    clean: isClean(certificate),
    erasureId: erasure.id,
    person: idsOf(erasure.personId, erasure.ownIds),
    requestTime: timestampFromMs(erasure.requestedAtMs),
    erased: BigInt(erased),
    checks: checks.map(({ what, query = "", count }) => ({ what, query, count: BigInt(count) })),
    remains: remains.map(({ partition, from, to, newestAtMs }) => {
      const range = { firstOffset: BigInt(from), lastOffset: BigInt(to) };
      return { partition, ...range, newestTime: timestampFromMs(newestAtMs) };
    }),
    remainsReason: remains.length === 0 ? "" : retention.why,
    ...(erasure.finishedAtMs === undefined ? {} : { finishTime: timestampFromMs(erasure.finishedAtMs) }),
    ...(untilMs === undefined ? {} : { remainsUntil: timestampFromMs(untilMs) }),
  };
  return create(DeleteResponseSchema, { answer: { case: "certificate", value } });
}

function idsOf(personId: string, ownIds: readonly string[]): MessageInitShape<typeof PersonIdsSchema> {
  return { personId, ownIds: ownIds.slice(0, OWN_IDS_MAX), ownIdCount: BigInt(ownIds.length) };
}
