/** Chat, and watch features light up; turn them, and see what changes. */
import { computed, effect, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Dialog } from "../parts/dialog";
import { count } from "../parts/number";
import { clear, comparing, filled, rereading, room, send, settings, stop, turnAgain, turns, writing } from "../state/conversation";
import { edits, pins } from "../state/pins";
import { dictionary, served } from "../state/session";
import { Guide } from "./guide";
import { Recipes, Share } from "./keep";
import { Pins } from "./pins";
import { TurnView } from "./turn";

export function ChatPage() {
  const dialog = useSignal<"recipes" | "share" | "settings" | null>(null);
  const sheet = useSignal(false);
  const end = useRef<HTMLDivElement>(null);
  useEffect(rewriteLive, []);
  useEffect(() => (end.current ? followEnd(end.current) : undefined), []);
  const close = () => {
    dialog.value = null;
  };
  const list = turns.value;
  return (
    <main class="chat">
      <div class="talk">
        <h1 class="unseen">Chat</h1>
        {list.length === 0 ? <Guide whole /> : list.map((turn, i) => <TurnView key={turn.id} turn={turn} last={i === list.length - 1} />)}
        <div ref={end} />
        {rereading.value && <p class="quiet" role="status"><span class="pulse" aria-hidden="true" /> The model reads the conversation again for its features…</p>}
        <Room />
        <Composer sheet={sheet} />
      </div>
      <aside class={sheet.value ? "panel shown" : "panel"} aria-label="Pinned features">
        <header>
          <h2>Pinned features</h2>
          <button type="button" class="plain phone" aria-label="Close the pinned features" onClick={() => (sheet.value = false)}>✕</button>
        </header>
        {dictionary.value === null && served.value && (
          <p class="quiet">No dictionary is served with this model, so there are no features to see. Start the studio with <code>--dictionary</code>.</p>
        )}
        <Pins />
        <label class="switch">
          <input type="checkbox" checked={comparing.value} onChange={(e) => (comparing.value = e.currentTarget.checked)} />
          <span>
            Compare <span class="quiet">plain and turned, side by side; the turned answer is written again as you move a slider</span>
          </span>
        </label>
        <div class="row">
          <button type="button" disabled={!turns.value.length || !edits.value.length || writing.value} onClick={turnAgain}>Answer again, turned</button>
          <button type="button" onClick={() => (dialog.value = "recipes")}>Recipes</button>
        </div>
        <div class="row">
          <button type="button" class="plain" onClick={() => (dialog.value = "share")}>Share</button>
          <button type="button" class="plain" onClick={() => (dialog.value = "settings")}>Settings</button>
          <button type="button" class="plain" disabled={!list.length} onClick={clear}>New chat</button>
        </div>
        {list.length > 0 && <Guide />}
      </aside>
      {dialog.value === "recipes" && <Recipes close={close} />}
      {dialog.value === "share" && <Share close={close} />}
      {dialog.value === "settings" && <Settings close={close} />}
    </main>
  );
}

/** From here on it is told how full the conversation is, as a share of its room. */
const NEARLY_FULL = 0.7;
/** An answer of fewer tokens is none. */
const LEAST = 8;
const full = computed(() => filled.value + LEAST >= room.value);

/** How much of what the model reads at once is used, once that matters. */
function Room() {
  if (filled.value < NEARLY_FULL * room.value) return null;
  const [used, all] = [filled.value, room.value].map(count);
  return full.value ? (
    <p class="filled" role="status">
      This conversation has filled its room of <span class="number">{all}</span> tokens: the model cannot read more at once. Begin a new chat, or start
      the studio with a larger <code>--room</code>. <button type="button" onClick={clear}>New chat</button>
    </p>
  ) : (
    <p class="quiet small number" role="status" title="Question and answers together; the model reads no more tokens than that at once">
      {used} of {all} tokens of this conversation's room are used.
    </p>
  );
}

function Composer({ sheet }: { sheet: { value: boolean } }) {
  const text = useSignal("");
  const box = useRef<HTMLTextAreaElement>(null);
  const submit = () => {
    if (!text.value.trim() || writing.value || full.value) return;
    send(text.value);
    text.value = "";
  };
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={box}
        rows={1}
        aria-label="Message"
        placeholder="Ask something"
        value={text.value}
        dir="auto"
        onInput={(e) => (text.value = e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
            e.preventDefault();
            submit();
          }
        }}
      />
      <button type="button" class="phone" aria-expanded={sheet.value} onClick={() => (sheet.value = !sheet.value)}>
        Features{pins.value.length ? ` (${pins.value.length})` : ""}
      </button>
      {writing.value ? (
        <button type="button" class="first" onClick={stop}>Stop</button>
      ) : (
        <button type="submit" class="first" disabled={!text.value.trim() || full.value}>Send</button>
      )}
    </form>
  );
}

function Settings({ close }: { close: () => void }) {
  const { temperature, most, system, seed } = settings.value;
  const set = (to: Partial<typeof settings.value>) => {
    settings.value = { ...settings.value, ...to };
  };
  return (
    <Dialog title="Settings" close={close}>
      <div class="stack">
        <label>
          Length <span class="quiet">at most so many tokens</span>
          <input type="number" min={1} max={16384} value={most} onInput={(e) => set({ most: clamp(e.currentTarget.valueAsNumber, 1, 16384, 160) })} />
        </label>
        <label>
          Temperature <span class="quiet">0 takes the likeliest token always; then what differs between two answers is the edit's doing</span>
          <input type="number" min={0} max={2} step={0.1} value={temperature} onInput={(e) => set({ temperature: clamp(e.currentTarget.valueAsNumber, 0, 2, 0) })} />
        </label>
        <label>
          Seed <span class="quiet">of chance, the same for both answers</span>
          <input type="number" min={0} max={1e9} value={seed} onInput={(e) => set({ seed: Math.round(clamp(e.currentTarget.valueAsNumber, 0, 1e9, 1)) })} />
        </label>
        <label>
          System prompt <span class="quiet">what the model is told before the conversation</span>
          <textarea rows={3} dir="auto" value={system} onInput={(e) => set({ system: e.currentTarget.value })} />
        </label>
      </div>
    </Dialog>
  );
}

const clamp = (value: number, low: number, high: number, otherwise: number): number =>
  Number.isFinite(value) ? Math.max(low, Math.min(high, value)) : otherwise;

/** While comparing, write the turned answer again when a slider has come to rest. */
function rewriteLive(): () => void {
  let before = JSON.stringify(edits.peek());
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stopped = effect(() => {
    const now = JSON.stringify(edits.value);
    if (now === before) return;
    before = now;
    clearTimeout(timer);
    if (comparing.peek() && turns.peek().length) timer = setTimeout(turnAgain, 300);
  });
  return () => {
    clearTimeout(timer);
    stopped();
  };
}

/** Stay at the end of the answer while it grows, unless somebody scrolled away. */
function followEnd(end: HTMLElement): () => void {
  const talk = end.parentElement;
  if (!talk) return () => undefined;
  let near = true;
  const look = () => {
    near = innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  };
  addEventListener("scroll", look, { passive: true });
  const watch = new ResizeObserver(() => {
    if (near && writing.peek()) scrollTo(0, document.documentElement.scrollHeight);
  });
  watch.observe(talk);
  return () => {
    removeEventListener("scroll", look);
    watch.disconnect();
  };
}
