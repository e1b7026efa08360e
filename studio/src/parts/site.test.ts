import { expect, test } from "vitest";
import { siteInWords } from "./site";

test("sites are said in words, and what is none stays as it is", () => {
  expect(siteInWords("resid_post.13")).toMatch(/up to layer 13 .*residual stream/);
  expect(siteInWords("embed")).toMatch(/embeddings/);
  for (const other of ["elsewhere.3", "resid_pre.1+mlp_out.1", ""]) expect(siteInWords(other)).toBe(other);
});
