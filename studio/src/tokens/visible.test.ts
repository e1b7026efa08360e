import { expect, test } from "vitest";
import { named, visible } from "./visible";

test("marks that reorder text are shown by name", () => {
  expect(visible("a\u202eb\u2066c\u2069")).toBe("a⟨RLO⟩b⟨LRI⟩c⟨PDI⟩");
  expect(visible("\u200fx\u061c")).toBe("⟨RLM⟩x⟨ALM⟩");
});

test("hidden characters and controls are shown, lines and tabs are kept", () => {
  expect(visible("a\u0000\u001b[31m\r\n\tb")).toBe("a␀␛[31m␍\n\tb");
  expect(visible("\u{e0041}\u200b")).toBe("⟨U+E0041⟩⟨ZWSP⟩");
});

test("writing that needs joiners is left alone", () => {
  for (const text of ["👩‍🚀", "שלום", "العربية", "日本語", "<b>&amp;"]) expect(visible(text)).toBe(text);
});

test("a token by itself shows its blanks", () => {
  expect(named(" sea")).toBe("␣sea");
  expect(named("\n\n")).toBe("↵↵");
  expect(named("")).toBe("◌");
});
