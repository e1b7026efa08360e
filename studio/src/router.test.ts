import { expect, test } from "vitest";
import { featurePath, routeOf } from "./router";

test("every page has its address", () => {
  expect(routeOf("/")).toEqual({ page: "chat" });
  expect(routeOf("/inspect")).toEqual({ page: "inspect" });
  expect(routeOf("/map/")).toEqual({ page: "map" });
  const name = "smollm2-resid_post.13 16/k";
  expect(routeOf(featurePath(name, 12058))).toEqual({ page: "feature", dictionary: name, feature: 12058 });
});

test("what is no page is nowhere", () => {
  for (const path of ["/x", "/features/a", "/features/a/b", "/features/a/-1", "/features/%E0%A4%A/1", "/map/2"])
    expect(routeOf(path)).toEqual({ page: "nowhere" });
});
