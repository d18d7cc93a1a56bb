// The compact encoding of Kafka's newer requests ("flexible versions"), which kafkajs does not write: lengths as varints, one
// more than they are so that 0 is null, and fields with tags at the end of each structure, of which none is used here.

import { createRequire } from "node:module";

/** kafkajs's own, of which a request's body has to be one. */
export interface FlexibleWriter {
  writeInt8(value: number): FlexibleWriter;
  writeInt16(value: number): FlexibleWriter;
  writeInt32(value: number): FlexibleWriter;
  writeInt64(value: string): FlexibleWriter;
  writeBoolean(value: boolean): FlexibleWriter;
  writeUVarInt(value: number): FlexibleWriter;
  writeUVarIntString(value: string): FlexibleWriter;
  writeBuffer(value: Buffer): FlexibleWriter;
}

const ID_BYTES = 16;
const require = createRequire(import.meta.url);
const Encoder = require("kafkajs/src/protocol/encoder") as new () => FlexibleWriter;

/** Begins the body with the end of the request's head: it has no tagged fields. */
export function createFlexibleWriter(): FlexibleWriter {
  return writeTags(new Encoder());
}

export function writeTags(writer: FlexibleWriter): FlexibleWriter {
  return writer.writeUVarInt(0);
}

export function writeEach<T>(writer: FlexibleWriter, items: readonly T[], write: (item: T) => void): void {
  writer.writeUVarInt(items.length + 1);
  for (const item of items) write(item);
}

export function writeTopicId(writer: FlexibleWriter, id: string): void {
  writer.writeBuffer(Buffer.from(id, "base64url"));
}

/** Of an answer from its body on, which begins with the end of the head. Throws RangeError behind the end. */
export class FlexibleReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.skipTags();
  }

  int8(): number {
    return this.#bytes.readInt8(this.#past(1));
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#past(2));
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#past(4));
  }

  int64(): string {
    return String(this.#bytes.readBigInt64BE(this.#past(8)));
  }

  /** Null is empty. */
  bytes(): Buffer {
    const length = Math.max(0, this.#varint() - 1);
    const from = this.#past(length);
    if (this.#at > this.#bytes.length) throw new RangeError("the answer ends in the middle of a field");
    return this.#bytes.subarray(from, this.#at);
  }

  text(): string {
    return this.bytes().toString();
  }

  /** As Kafka's tools print it. */
  topicId(): string {
    const from = this.#past(ID_BYTES);
    return this.#bytes.subarray(from, this.#at).toString("base64url");
  }

  /** Null is empty. */
  each<T>(read: () => T): T[] {
    const items: T[] = [];
    for (let left = this.#varint() - 1; left > 0; left--) items.push(read());
    return items;
  }

  skipTags(): void {
    for (let left = this.#varint(); left > 0; left--) {
      this.#varint();
      this.#past(this.#varint());
    }
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes.readUInt8(this.#past(1));
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  #past(length: number): number {
    const from = this.#at;
    this.#at += length;
    return from;
  }
}
