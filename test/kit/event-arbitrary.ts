// Arbitrary log events for property tests.
import fc from "fast-check";
import type { LogEvent } from "#lib/events/record.ts";

/** Any event that can be on the log. `text` is what its text fields hold. */
export function anyLogEvent(
  text: fc.Arbitrary<string>,
  { timeUs, propertiesJson }: { timeUs: fc.Arbitrary<number>; propertiesJson: fc.Arbitrary<string> },
): fc.Arbitrary<LogEvent> {
  return fc.record({
    id: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    idFromCaller: fc.boolean(),
    event: text,
    distinctId: text,
    source: text,
    value: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }), { nil: undefined }),
    timeUs,
    receivedUs: timeUs,
    propertiesJson,
    checkStored: fc.boolean(),
    originalTime: text,
    apiKey: text,
    ip: text,
    userAgent: text,
    sessionId: text,
    windowId: text,
    elementsChain: text,
    currentUrl: text,
    host: text,
    anonDistinctId: text,
    deviceId: text,
    trusted: fc.boolean(),
  });
}
