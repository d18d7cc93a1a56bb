// What an event says about groups (companies, teams): PostHog's `$groupidentify`, and the `$groups` of any event.
import { isNoId } from "./no-id.ts";
import { idText, isAbsent, isObject, type Moment, type VoidReason } from "./said.ts";

/** It describes a group alone: it does not identify its sender. */
export const GROUP_EVENT = "$groupidentify";

/** The group was named at that moment, and these properties, JSON texts by key, were set then. */
export interface GroupFact extends Moment {
  type: string;
  groupKey: string;
  properties: readonly (readonly [key: string, value: string])[];
}

interface GroupSource extends Moment {
  event: string;
  properties: Record<string, unknown>;
}

export function groupsOf({ event, properties, timeUs, eventId }: GroupSource, voids: VoidReason[]): GroupFact[] {
  const facts: GroupFact[] = [];
  const add = (type: unknown, key: unknown, set: GroupFact["properties"]) => {
    const [typeText, keyText] = [idText(type), idText(key)];
    if (typeText === undefined || keyText === undefined) voids.push("wrong_type");
    else if ([typeText, keyText].some((text) => text.trim() === "" || isNoId(text))) voids.push("no_id");
    else
      facts.push({ type: typeText.toWellFormed(), groupKey: keyText.toWellFormed(), properties: set, timeUs, eventId });
  };
  if (event === GROUP_EVENT) add(properties.$group_type, properties.$group_key, setOf(properties.$group_set, voids));
  const named = properties.$groups;
  if (isObject(named)) for (const [type, key] of Object.entries(named)) if (!isAbsent(key)) add(type, key, []);
  if (!isObject(named) && !isAbsent(named)) voids.push("wrong_type");
  return facts;
}

function setOf(given: unknown, voids: VoidReason[]): [string, string][] {
  if (isAbsent(given)) return [];
  if (isObject(given)) return Object.entries(given).map(([key, value]) => [key.toWellFormed(), JSON.stringify(value)]);
  voids.push("wrong_type");
  return [];
}
