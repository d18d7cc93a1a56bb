import { describe, expect, it } from "vitest";
import { promotedColumnsIn, withPromotedColumns } from "./promoted-view.ts";

const VIEW =
  "SELECT e.a AS a, if(e.b = 'x, FROM', 1, 2) AS b FROM m.events_raw AS e ANY LEFT JOIN m.o AS o ON e.a = o.a";

describe("promoted columns in a view", () => {
  it("are put behind its own, under the table's alias", () => {
    expect(withPromotedColumns(VIEW, ["p_plan", "p_größe"])).toBe(
      VIEW.replace("AS b FROM", "AS b, `e`.`p_plan` AS `p_plan`, `e`.`p_größe` AS `p_größe` FROM"),
    );
  });

  it("replace those that were there", () => {
    const before = withPromotedColumns(VIEW, ["p_a", "p_b"]) ?? "";
    expect(promotedColumnsIn(before)).toEqual(["p_a", "p_b"]);
    expect(withPromotedColumns(before, ["p_c"])).toBe(withPromotedColumns(VIEW, ["p_c"]));
    expect(withPromotedColumns(before, [])).toBe(VIEW);
    expect(promotedColumnsIn(VIEW)).toEqual([]);
  });

  it("need no alias", () => {
    expect(withPromotedColumns("SELECT a FROM m.events_raw", ["p_c"])).toBe(
      "SELECT a, `p_c` AS `p_c` FROM m.events_raw",
    );
  });

  it.each([
    ["a union", "SELECT a FROM t UNION ALL SELECT b FROM u"],
    ["no table", "SELECT 1"],
    ["a WITH clause", "WITH 1 AS x SELECT x FROM t"],
  ])("cannot be put into a view with %s", (_case, select) => {
    expect(withPromotedColumns(select, ["p_c"])).toBeUndefined();
  });
});
