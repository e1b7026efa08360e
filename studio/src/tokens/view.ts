/**
 * Draws tokens as spans, by hand: an answer of thousands of tokens grows by a few each frame, and a change of tint
 * touches classes alone.
 *
 * A line of text is a block of its own, so that a new token lays out the last line and what is out of sight is not
 * laid out at all (`content-visibility` in the style sheet).
 */
import { effect } from "@preact/signals";
import { pins } from "../state/pins";
import { close, enter, leave, press } from "./looking";
import { paint, type Tint } from "./paint";
import type { Tokens } from "./tokens";
import { visible } from "./visible";

const views = new WeakMap<Tokens, View>();

/** Bring a token into sight and look at it. */
export function show(tokens: Tokens, index: number): void {
  views.get(tokens)?.go(index, true);
}

export class View {
  readonly #spans: HTMLSpanElement[] = [];
  readonly #places = new WeakMap<Element, number>();
  readonly #stop: () => void;
  readonly #gone = new AbortController();
  #line: HTMLDivElement | null = null;
  #at = -1;

  constructor(
    readonly host: HTMLElement,
    readonly tokens: Tokens,
    /** The one feature that tints, whatever is pinned. */
    readonly only?: number,
    /** Whether line breaks are shown as signs, and the text as one paragraph. */
    readonly flat = false,
  ) {
    host.replaceChildren();
    views.set(tokens, this);
    const chosen = only === undefined ? pins : null;
    let painted = pins.peek();
    this.#stop = effect(() => {
      void tokens.version.value;
      if (chosen && painted !== chosen.value) {
        painted = chosen.value;
        this.#retint();
      }
      this.#grow();
    });
    const { signal } = this.#gone;
    host.addEventListener("pointerover", (e) => e.pointerType === "mouse" && this.#hover(e.target), { signal });
    host.addEventListener("pointerout", (e) => e.pointerType === "mouse" && leave(), { signal });
    host.addEventListener("click", (e) => this.#click(e), { signal });
    host.addEventListener("keydown", (e) => this.#key(e), { signal });
    host.addEventListener("blur", () => this.#mark(-1), { signal });
  }

  end(): void {
    this.#stop();
    this.#gone.abort();
    if (views.get(this.tokens) === this) views.delete(this.tokens);
  }

  /** Look at a token. */
  go(index: number, scroll = false): void {
    const span = this.#spans[index];
    if (!span) return;
    this.#mark(index);
    if (scroll) span.scrollIntoView({ block: "center" });
    press(this.tokens, index, span);
  }

  #chosen(): readonly Tint[] {
    return this.only === undefined ? pins.peek() : [{ feature: this.only, colour: null }];
  }

  #grow(): void {
    const { texts } = this.tokens;
    const chosen = this.#chosen();
    for (let i = this.#spans.length; i < texts.length; i++) {
      const text = texts[i] ?? "";
      const span = document.createElement("span");
      span.className = paint(this.tokens, i, chosen);
      const shown = visible(text);
      span.textContent = text === "" ? "◌" : this.flat ? shown.replace(/\n+/g, "↵ ") : shown;
      this.#places.set(span, i);
      this.#spans.push(span);
      if (!this.#line) {
        this.#line = document.createElement("div");
        this.#line.className = "line";
        this.#line.dir = "auto";
        this.host.append(this.#line);
      }
      this.#line.append(span);
      if (!this.flat && text.endsWith("\n")) this.#line = null;
    }
  }

  #retint(): void {
    const chosen = this.#chosen();
    this.#spans.forEach((span, i) => {
      const wanted = paint(this.tokens, i, chosen) + (i === this.#at ? " at" : "");
      if (span.className !== wanted) span.className = wanted;
    });
  }

  #mark(index: number): void {
    this.#spans[this.#at]?.classList.remove("at");
    this.#at = index;
    this.#spans[index]?.classList.add("at");
  }

  #hover(target: EventTarget | null): void {
    const index = this.#places.get(target as Element);
    if (index !== undefined) enter(this.tokens, index, target as HTMLElement);
  }

  #click(event: MouseEvent): void {
    const index = this.#places.get(event.target as Element);
    // Whoever marks text to copy it does not mean the token.
    if (index !== undefined && !getSelection()?.toString()) this.go(index);
  }

  #key(event: KeyboardEvent): void {
    const last = this.#spans.length - 1;
    const to = { ArrowRight: this.#at + 1, ArrowLeft: this.#at - 1, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.go(Math.max(0, Math.min(last, to)));
      this.#spans[this.#at]?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && this.#at >= 0) {
      event.preventDefault();
      document.querySelector<HTMLElement>("#card button, #card a")?.focus();
    } else if (event.key === "Escape") {
      close();
    }
  }
}
