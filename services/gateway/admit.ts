// Room for a request's body, by who sends it.
import type { HttpRequest } from "#lib/http/message.ts";
import type { Admission, Holder, Lease } from "./admission.ts";
import type { Grant } from "./auth.ts";
import { declaredLength } from "./http-request.ts";

/** Room for a body of at most `maxBytes`; undefined: there is none. */
export type Admit = (request: HttpRequest, holder: Holder, maxBytes: number) => Lease | undefined;

export function createAdmit(admission: Admission): Admit {
  return (request, holder, maxBytes) => {
    const declared = declaredLength(request);
    // A body declared beyond the limit is let in, to be told that it is too large rather than to come again.
    return admission.open(holder, declared > maxBytes ? 0 : declared);
  };
}

/** A public key is in apps and pages, so each address with it is a caller. Where no key is set all are one. */
export function holderOf({ key, isSecret }: Grant, address: string): Holder {
  return { kind: "key", key, address: isSecret || key === "" ? undefined : address };
}
