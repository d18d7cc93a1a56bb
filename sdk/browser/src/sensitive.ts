// What autocapture must not see. Everything here is decided from names and marks; the values of fields are only looked at
// to refuse, and never sent.

const OPT_OUT_CLASSES = ["cpa-sensitive", "cpa-no-capture"];
const INCLUDE_CLASS = "cpa-include";
const WORDS = new Set(
  (
    "cardnum cardnumber cvc cvv cvn csc exp expiry expiration expdate expmonth expyear pass pwd pin otp token secret " +
    "routing iban ssn"
  ).split(" "),
);
const PARTS = /cardnum|creditcard|password|passwd|passphrase|passcode|securitynum|socialsec|routingnum|accountnum|^cc/;
const ENDINGS = /(?:pass|pwd|ssn|cvc|cvv)$/;
const CARD = /^(?:\d[ -]?){13,19}$/;
const SSN = /^\d{3}-?\d{2}-?\d{4}$/;

/** Whether the element is marked as none of ours; a mark counts for all that is inside. */
export function isOptedOut(element: Element): boolean {
  return OPT_OUT_CLASSES.some((name) => element.classList.contains(name));
}

/** The attribute: as a property a form has its field of the name `id` instead. */
export function idOf(element: Element): string {
  return element.getAttribute("id") ?? "";
}

/** Whether type, name and content of an element let it be captured. */
export function isHarmless(element: Element): boolean {
  const type = (element.getAttribute("type") ?? "").toLowerCase();
  // The property differs from the attribute where a script has set one of them.
  const field = element as Partial<HTMLInputElement>;
  if (type === "hidden" || type === "password" || field.type === "hidden" || field.type === "password") return false;
  const autocomplete = (element.getAttribute("autocomplete") ?? "").toLowerCase();
  if (/password|^cc-|one-time-code/.test(autocomplete)) return false;
  if (element.classList.contains(INCLUDE_CLASS)) return true;
  if (isSensitiveName(element.getAttribute("name") ?? "") || isSensitiveName(idOf(element))) return false;
  return !(typeof field.value === "string" && looksSecret(field.value));
}

/** `cardNumber`, `user_password`, `cc-exp`; not `export` or `passenger`. */
export function isSensitiveName(name: string): boolean {
  const words = name
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .split(/[^a-z]+/);
  const joined = words.join("");
  return PARTS.test(joined) || words.some((word) => WORDS.has(word) || ENDINGS.test(word));
}

/** A card or social security number, alone. */
export function looksSecret(text: string): boolean {
  const trimmed = text.trim();
  return CARD.test(trimmed) || SSN.test(trimmed);
}
