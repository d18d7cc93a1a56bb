// Settings that say what one call of a command is to do: given as arguments, some of them several times.
import { expected, type Setting, setting, settingInfo } from "./settings.ts";

/** Text that may be given several times; a variable can give one, a configuration file a list. */
export function several(placeholder: string): Setting<readonly string[]> {
  const info = { expected: "text, or a list of texts", placeholder, isList: true };
  return setting<readonly string[]>(info, [], (raw) => {
    const items: unknown = Array.isArray(raw) ? raw : [raw];
    return Array.isArray(items) && items.every((item) => typeof item === "string") ? { value: items } : expected(info);
  });
}

/** The setting as one that only an argument can set: what one call is to do is not read from the environment. */
export function onCommandLine<T>(own: Setting<T>): Setting<T> {
  return own.register(settingInfo, { expected: "", ...settingInfo.get(own), argumentOnly: true });
}

/** One argument with a value; undefined when it is not given. */
export function option<T>(
  placeholder: string,
  expectedForm: string,
  read: (raw: string) => T | undefined,
): Setting<T | undefined> {
  const info = { expected: expectedForm, placeholder, argumentOnly: true };
  return setting<T | undefined>(info, undefined, (raw) => {
    const value = read(String(raw));
    return value === undefined ? expected(info) : { value };
  });
}
