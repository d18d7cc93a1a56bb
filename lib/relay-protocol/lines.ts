// Bytes of a connection to lines, and what a text in a line may not hold.

export interface LineSplitter {
  /**
   * Hands on each line that the chunk completes, without its end. False: a line is longer than the limit, the connection
   * is of no use any more. The chunk is not kept.
   */
  push(chunk: Uint8Array, onLine: (line: string) => void): boolean;
}

const LF = 0x0a;
const CR = 0x0d;
const HELD_BYTES_MIN = 256;

/**
 * `maxBytes` bounds a line without its LF, and with it the memory held. `ends`: "LF", a CR belongs to its line; "any", the
 * first line ends with LF, CR LF or CR, and a CR ends the others only where it did. CRs before an LF are then no part of the line.
 */
export function createLineSplitter(maxBytes: number, ends: "LF" | "any" = "LF"): LineSplitter {
  /** What ended the first line; an LF ends a line in any case. */
  let end = ends === "LF" ? LF : undefined;
  // One buffer that grows by doubling: a line that arrives byte by byte must not become an array of tiny chunks.
  let held = Buffer.alloc(0);
  let heldBytes = 0;

  function hold(bytes: Buffer): boolean {
    const needed = heldBytes + bytes.length;
    if (needed > maxBytes) return false;
    if (needed > held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(HELD_BYTES_MIN, needed, Math.min(maxBytes, held.length * 2)));
      held.copy(larger, 0, 0, heldBytes);
      held = larger;
    }
    bytes.copy(held, heldBytes);
    heldBytes = needed;
    return true;
  }

  function takeHeld(): string {
    const line = textOf(held, 0, heldBytes);
    held = Buffer.alloc(0);
    heldBytes = 0;
    return line;
  }

  function textOf(bytes: Buffer, from: number, to: number): string {
    let last = to;
    if (ends === "any") while (last > from && bytes[last - 1] === CR) last--;
    return bytes.toString("utf8", from, last);
  }

  function nextEnd(bytes: Buffer, from: number): number {
    if (end === LF) return bytes.indexOf(LF, from);
    const cr = bytes.indexOf(CR, from);
    const lf = bytes.subarray(from, cr < 0 ? bytes.length : cr).indexOf(LF);
    const first = lf < 0 ? cr : from + lf;
    if (first >= 0) end ??= bytes[first];
    return first;
  }

  /** Where the line begins: an LF there is the second half of a CR LF, which then ends the other lines as well. */
  function lineFrom(bytes: Buffer, at: number): number {
    if (end !== CR || heldBytes > 0 || bytes[at] !== LF) return at;
    end = LF;
    return at + 1;
  }

  return {
    push(chunk, onLine) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let from = lineFrom(bytes, 0);
      for (let at = nextEnd(bytes, from); at >= 0; at = nextEnd(bytes, from)) {
        if (heldBytes > 0) {
          if (!hold(bytes.subarray(from, at))) return false;
          onLine(takeHeld());
        } else {
          if (at - from > maxBytes) return false;
          onLine(textOf(bytes, from, at));
        }
        from = lineFrom(bytes, at + 1);
      }
      return from === bytes.length || hold(bytes.subarray(from));
    },
  };
}

export type TextFault = "not_utf8" | "control_character";

/** C0 but for the tab, DEL, C1 with NEL, and Unicode's separators of lines and paragraphs. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
const CONTROL = /[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]/;

/** Why a text is no id, name or tag. U+FFFD stands where bytes were not UTF-8: two such texts may have been different ones. */
export function textFault(text: string): TextFault | undefined {
  if (text.includes("\uFFFD")) return "not_utf8";
  return CONTROL.test(text) ? "control_character" : undefined;
}

/** Blanks and tabs at the end of a line are part of nothing. */
export function withoutBlanks(text: string): string {
  let end = text.length;
  while (end > 0 && " \t".includes(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}
