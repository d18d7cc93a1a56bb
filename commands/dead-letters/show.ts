// `millrace dead-letters show`: everything about one letter.

import type { PositionNames } from "#lib/ledger/position-name.ts";
import type { Letter } from "#lib/letters/letters.ts";
import { printable, printableJson, printableTime } from "#lib/process/printable.ts";
import { readLetter } from "./reading.ts";
import { hexDump, utf8Text } from "./record-view.ts";
import type { Replay } from "./replays.ts";

/** Of a value that cannot be read this much is dumped to the terminal. */
const DUMP_BYTES = 16 * 1024;

/** `isLogRead`: the log could be asked where the records under this id came from. */
export function letterText(
  letter: Letter,
  replays: readonly Replay[],
  names: PositionNames,
  isLogRead: boolean,
): string {
  const reading = readLetter(letter);
  const origin = reading?.origin;
  const lines = [
    `position  ${printable(`${letter.epoch}:${letter.topic}:${letter.partition}:${letter.offset}`)}`,
    `time      ${printableTime(letter.appendTimeMs)}`,
    `class     ${printable(letter.errorClass)}`,
    `error     ${printable(letter.error)}`,
    `key       ${keyText(letter.key)}`,
    `value     ${letter.value.length} bytes`,
    ...(origin ? [`replay of ${names.nameOf(origin)}`] : []),
    "",
    ...(reading ? [printableJson(reading.view, 2)] : hexDump(letter.value, DUMP_BYTES)),
    "",
    ...replays.map((replay) => replayLine(replay, names)),
  ];
  if (replays.length === 0)
    lines.push(reading ? "not replayed, or its replay is not stored yet" : "cannot be replayed");
  if (!isLogRead) lines.push("the log was not read, so a row may come from a replay or from the caller's own retry");
  return `${lines.join("\n")}\n`;
}

export function letterJson(letter: Letter, replays: readonly Replay[], names: PositionNames): string {
  const reading = readLetter(letter);
  const origin = reading?.origin;
  const { epoch, topic, partition, offset } = letter;
  const view = {
    position: names.nameOf(letter),
    ...{ epoch, topic, partition, offset, time: printableTime(letter.appendTimeMs) },
    ...{ class: letter.errorClass, error: letter.error },
    ...(origin && { replay_of: names.nameOf(origin) }),
    ...(reading && { record: reading.view }),
    key_base64: Buffer.from(letter.key).toString("base64"),
    value_base64: Buffer.from(letter.value).toString("base64"),
    replays: replays.map((replay) => ({
      ...{ position: names.nameOf(replay), time: printableTime(replay.appendTimeMs), outcome: replay.outcome },
      ...{ error: replay.error, certain: replay.isCertain },
    })),
  };
  return `${printableJson(view, 2)}\n`;
}

function keyText(key: Uint8Array): string {
  const text = utf8Text(key);
  return text === undefined ? `${Buffer.from(key).toString("hex")} (hexadecimal)` : printableJson(text);
}

function replayLine(replay: Replay, names: PositionNames): string {
  const where = `${names.nameOf(replay)} at ${printableTime(replay.appendTimeMs)}`;
  if (!replay.isCertain) return `stored: ${where}, a row with the same id`;
  if (replay.outcome === "row") return `replayed: ${where}, now a row`;
  if (replay.outcome === "duplicate") return `replayed: ${where}, a duplicate of the row`;
  return `replayed: ${where}, a dead letter again: ${printable(replay.error ?? "")}`;
}
