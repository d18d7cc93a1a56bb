import { describe, expect, it } from "vitest";
import { canonicalGroup, NO_TRANSITION, type Subject, scopeOf, subjectKey, transitionId } from "./transitions.ts";

const subject: Subject = {
  alertId: "785ba395-0000-4000-8000-000000000002",
  scope: scopeOf({ metric: "cpu", tags: { host: "a" }, groupBy: ["dc", "rack"] }),
  group: { dc: "eu", rack: "1" },
};

describe("a transition's id", () => {
  const id = transitionId(subject, NO_TRANSITION, "crit");

  it("is a UUID that stays the same from release to release", () => {
    expect(id).toBe("74a6547f-2113-84bc-855b-b7baf4f69f49");
  });

  it("does not depend on the order in which tags are written", () => {
    const same = { ...subject, group: { rack: "1", dc: "eu" } };
    expect(transitionId(same, NO_TRANSITION, "crit")).toBe(id);
    expect(subjectKey(same)).toBe(subjectKey(subject));
    expect(JSON.stringify(canonicalGroup(same.group))).toBe(JSON.stringify(canonicalGroup(subject.group)));
  });

  it("is another one for another alert, scope, group, previous change or level", () => {
    const others = [
      transitionId({ ...subject, alertId: NO_TRANSITION }, NO_TRANSITION, "crit"),
      transitionId({ ...subject, scope: "" }, NO_TRANSITION, "crit"),
      transitionId({ ...subject, group: { dc: "eu" } }, NO_TRANSITION, "crit"),
      transitionId({ ...subject, group: { dc: "eu", rack: "2" } }, NO_TRANSITION, "crit"),
      transitionId(subject, id, "crit"),
      transitionId(subject, NO_TRANSITION, "warn"),
    ];
    expect(new Set([id, ...others]).size).toBe(others.length + 1);
  });
});

describe("a scope", () => {
  const definition = { metric: "cpu", tags: { host: "a", dc: "eu" }, groupBy: ["dc", "rack"] };

  it("is the same for the same metric, tags and groupBy in any order", () => {
    expect(scopeOf({ metric: "cpu", tags: { dc: "eu", host: "a" }, groupBy: ["rack", "dc"] })).toBe(
      scopeOf(definition),
    );
  });

  it("is another one when any of them differs", () => {
    const others = [
      { ...definition, metric: "ram" },
      { ...definition, tags: { host: "a" } },
      { ...definition, tags: { host: "a", dc: "us" } },
      { ...definition, groupBy: [] },
    ].map(scopeOf);
    expect(new Set([scopeOf(definition), ...others]).size).toBe(5);
  });
});
