import { expect, it } from "vitest";
import { decodeReplayRequest, encodeReplayRequest } from "./replay-request.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

it("reads what it writes, and passes over what it does not know", () => {
  const records = [{ key: bytes("k"), value: bytes("\u0000v") }];
  expect(decodeReplayRequest(Buffer.from(encodeReplayRequest(records, "t")))).toEqual({
    topic: "t",
    records: records.map(({ key, value }) => ({ key: Buffer.from(key), value: Buffer.from(value) })),
  });
  const more = '{"a\\\\b":{"key":1},"records":[{"\\u006bey":"aw==","x":[{}],"value":"dg=="}]}';
  expect(decodeReplayRequest(Buffer.from(more))).toMatchObject({
    topic: "millrace.events",
    records: [{ key: Buffer.from("k") }],
  });
});

it.each([
  ...["", "[]", "null", "{}", '{"records":{}}', '{"records":[1]}', '{"records":[{"key":"a"}]}', '{"records":[]} x'],
  ...[
    '{"topic":1,"records":[]}',
    '{"records":[{"key":"a","value":1}]}',
    '{"records":[],"records":[]}',
    '{"records":[]',
  ],
  '{"records":[{"key":"a","key":"b","value":""}]}',
])("takes %s for nothing", (text) => {
  expect(decodeReplayRequest(Buffer.from(text))).toBeUndefined();
});
