import { expect, it } from "vitest";
import { isSensitiveName, looksSecret } from "./sensitive.ts";

it.each([
  "cardNumber",
  "card-number",
  "cc",
  "ccExpiry",
  "cc-name",
  "cvc",
  "cvv2",
  "exp_month",
  "user_password",
  "userpass",
])("refuses a field that is called %s", (name) => expect(isSensitiveName(name)).toBe(true));
it.each(["newPassword", "pwd", "PIN", "ssn", "routing_number", "routingNumber", "passphrase", "otp", "creditcard"])(
  "refuses a field that is called %s",
  (name) => expect(isSensitiveName(name)).toBe(true),
);

it.each(["export", "passenger", "expand", "passage", "spinner", "email", "card-list", "q", ""])(
  "takes a field that is called %s",
  (name) => expect(isSensitiveName(name)).toBe(false),
);

it.each([
  ["4111 1111 1111 1111", true],
  ["5500-0000-0000-0004", true],
  ["378282246310005", true],
  ["078-05-1120", true],
  ["order 4111", false],
  ["2026-03-27", false],
  ["12345", false],
])("knows whether %s looks like a card or social security number: %s", (text, expected) => {
  expect(looksSecret(text)).toBe(expected);
});
