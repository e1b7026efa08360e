/**
 * What a model writes, as text that shows what it is.
 *
 * Characters that would move, hide or reorder other text are shown as signs instead: controls, and the marks that
 * change the direction of writing (Unicode TR9; "Trojan Source", CVE-2021-42574). Markup needs nothing here: text
 * enters the page as text nodes alone.
 */

const NAMES: Record<number, string> = {
  0x061c: "ALM", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LS", 0x2029: "PS",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM", 0x00ad: "SHY",
};

// Tags (U+E0000 and on) hide whole sentences; C0 and C1 controls but tab and line feed do not belong in text.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\u{e0000}-\u{e007f}]/gu;

/** The text with every hidden character replaced by a sign that names it. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (found) => {
    const code = found.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `⟨${NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`}⟩`;
  });
}

/** A token by itself, as a list or a heading names it: blanks are shown too. */
export function named(token: string): string {
  if (token === "") return "◌";
  return visible(token).replace(/\n/g, "↵").replace(/\t/g, "→").replace(/^ +| +$/g, (s) => "␣".repeat(s.length));
}
