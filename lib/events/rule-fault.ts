// A broken rule: code, field and message.

/** Why an event was refused, in the terms of RejectionCode; never retryable. */
export type RuleCode = "missing" | "invalid" | "too_large" | "too_complex";

export interface RuleFault {
  fault: RuleCode;
  /** Path of the field as the caller spells it. */
  field: string;
  /** Continues the field's name: "must be a string, not a number". */
  message: string;
  /** Of which event, as far as it could be read: so that a caller who asks for it later is told. */
  of?: { id: string; event: string };
}

export function fault(code: RuleCode, field: string, message: string): RuleFault {
  return { fault: code, field, message };
}
