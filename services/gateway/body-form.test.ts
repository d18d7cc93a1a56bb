import { expect, it } from "vitest";
import type { HttpRequest } from "#lib/http/message.ts";
import { unpacked } from "./body-form.ts";
import { Refused } from "./refusals.ts";

const JSON_TEXT = '{"api_key":"k","batch":[{"event":"é + 100%"}]}';
const base64 = Buffer.from(JSON_TEXT).toString("base64");
// Texts of which base64 has a plus sign and a slash.
const PLUS = '{"a":"~~~>>>???"}';

function unpack(text: string, query = ""): string {
  return unpacked(Buffer.from(text), { url: `/e/${query}` } as HttpRequest, () => undefined).toString();
}

it.each([
  ["JSON as it is", JSON_TEXT, JSON_TEXT],
  ["JSON behind white space and a byte order mark", `\uFEFF \n${JSON_TEXT}`, `\uFEFF \n${JSON_TEXT}`],
  ["an array", "[]", "[]"],
  ["a form's base64", `data=${encodeURIComponent(base64)}`, JSON_TEXT],
  ["a form's base64 with other fields", `ver=1&data=${encodeURIComponent(base64)}&compression=base64`, JSON_TEXT],
  ["a form's base64 that was not percent-encoded", `data=${Buffer.from(PLUS).toString("base64")}`, PLUS],
  ["a form's JSON", `data=${encodeURIComponent(JSON_TEXT)}`, JSON_TEXT],
  [
    "a form's JSON with pluses for blanks",
    `data=${new URLSearchParams({ d: JSON_TEXT }).toString().slice(2)}`,
    JSON_TEXT,
  ],
])("%s", (_case, text, wanted) => {
  expect(unpack(text)).toBe(wanted);
});

it.each([
  ["base64 alone", base64, JSON_TEXT],
  ["base64 of URLs", Buffer.from(PLUS).toString("base64url"), PLUS],
])("%s is read where the query says so, and nowhere else", (_case, text, wanted) => {
  expect(unpack(text, "?compression=base64")).toBe(wanted);
  expect(unpack(text, "?compression=gzip")).toBe(text);
});

it.each([
  ["no base64", "data=%7F%7F", /^data: is neither JSON nor base64/],
  ["broken escapes", "data=%zz", /^data: is not percent-encoded/],
  ["bytes of no text", "data=%ff%fe", /^data: is not percent-encoded/],
])("a form with %s is refused", (_case, text, message) => {
  expect(() => unpack(text)).toThrow(message);
  expect(() => unpack(text)).toThrow(Refused);
});

it.each([
  ["nothing", ""],
  ["words", "no JSON at all"],
  ["a form without data", "a=1&b=2"],
])("%s stays as it is, for its wire to refuse", (_case, text) => {
  expect(unpack(text)).toBe(text);
});

it("room is asked for before anything is decoded", () => {
  const asked: number[] = [];
  const refuse = (bytes: number) => {
    asked.push(bytes);
    throw new Error("no room");
  };
  const body = Buffer.from(`data=${base64}`);
  expect(() => unpacked(body, {} as HttpRequest, refuse)).toThrow("no room");
  expect(asked).toEqual([3 * body.length]);
});
