// Text, numbers and times as the console shows them. Names and properties are anybody's text: what could hide, reorder or
// flood is made visible or cut here; markup is escaped by lit-html.

/** Control characters, format characters (marks of direction, zero width) and separators of lines. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u2061-\u206f]/gu;
const CHARS_MAX = 160;

/** One line of somebody else's text. "" is shown as such. */
export function shown(text: string, max = CHARS_MAX): string {
  const cut = text.length > max ? `${text.slice(0, max - 1)}…`.toWellFormed() : text;
  return cut.replace(UNSEEN, visible);
}

/** Several lines of somebody else's text: line breaks and tabs stay. */
export function shownBlock(text: string, max: number): string {
  const cut = text.length > max ? `${text.slice(0, max - 1)}…`.toWellFormed() : text;
  return cut.replace(UNSEEN, (character) =>
    character === "\n" || character === "\t" ? character : visible(character),
  );
}

function visible(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  // The pictures of control characters that Unicode has.
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return `\\u${code.toString(16).padStart(4, "0")}`;
}

/** Beyond it lines are not moved further to the right. */
const LEVELS_MAX = 40;
/** A string, perhaps without its end; what opens and closes; what stands between values; white space. */
const JSON_PARTS = /"[^"\\]*(?:\\.[^"\\]*)*"?|[{[]\s*[}\]]?|[}\]]|[,:]|\s+/gs;

/**
 * JSON text with line breaks, also when its end is cut off. Not by JSON.parse: that changes the digits of numbers. As it is
 * when it is no object or array.
 */
export function prettyJson(text: string): string {
  if (!/^\s*[{[]/.test(text)) return text;
  let level = 0;
  const line = () => `\n${"  ".repeat(Math.min(level, LEVELS_MAX))}`;
  return text.replace(JSON_PARTS, (part) => {
    if (part.startsWith('"')) return readable(part);
    if (/^\s/.test(part)) return "";
    if (part === ",") return part + line();
    if (part === ":") return ": ";
    if (/^[}\]]/.test(part)) {
      level = Math.max(0, level - 1);
      return line() + part;
    }
    const [open = "", close] = part.replace(/\s/g, "");
    if (close !== undefined) return open + close;
    level += 1;
    return open + line();
  });
}

/** A string of JSON without the escapes that it can do without. */
function readable(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    // Its end is cut off.
    return text;
  }
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export function count(value: number | string): string {
  return WHOLE.format(Number(value));
}

export function decimal(value: number): string {
  return FINE.format(value);
}

export function compact(value: number): string {
  return SHORT.format(value);
}

export function percent(part: number, whole: number): string {
  if (whole === 0) return "0 %";
  const share = (100 * part) / whole;
  return `${share > 0 && share < 0.1 ? "< 0.1" : FINE.format(Math.round(share * 10) / 10)} %`;
}

export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Of a duration as protobuf's JSON has it, "1.5s". */
export function seconds(duration: string | undefined): number {
  return Number.parseFloat(duration ?? "0");
}

export function span(secondsLong: number): string {
  if (secondsLong < 1) return `${Math.round(secondsLong * 1000)} ms`;
  if (secondsLong < 60) return `${FINE.format(Math.round(secondsLong * 10) / 10)} s`;
  // Rounded first: never 1 min 60 s.
  const whole = Math.round(secondsLong);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

let skewMs = 0;

/** By how much the server's clock is ahead of the browser's, milliseconds. */
export function setSkew(ms: number): void {
  skewMs = ms;
}

/** Now as the server has it: a browser's clock may be wrong by days. */
export function nowMs(): number {
  return Date.now() + skewMs;
}

export function ago(time: string | undefined): string {
  if (time === undefined) return "never";
  const past = (nowMs() - Date.parse(time)) / 1000;
  if (Number.isNaN(past)) return "";
  if (past < -1) return `in ${span(-past)}`;
  if (past < 2) return "now";
  if (past < 60) return `${Math.round(past)} s ago`;
  if (past < 3600) return `${Math.round(past / 60)} min ago`;
  if (past < 86_400) return `${Math.round(past / 3600)} h ago`;
  return `${Math.round(past / 86_400)} d ago`;
}

const two = (value: number) => String(value).padStart(2, "0");

/** Of the browser, such as "Europe/Berlin (UTC+01:00)". */
export function zone(): string {
  const minutes = -new Date(nowMs()).getTimezoneOffset();
  const offset = `${minutes < 0 ? "-" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  return timeZone === "UTC" ? timeZone : `${timeZone} (UTC${offset})`;
}

/** In the zone of the browser. */
export function clock(time: string | number, withMs = false): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "";
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return withMs ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

export function day(time: string | number): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "";
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Date and time; of today the time alone. */
export function moment(time: string | number, withMs = false): string {
  const today = day(nowMs());
  const own = day(time);
  return own === today ? clock(time, withMs) : `${own} ${clock(time, withMs)}`;
}
