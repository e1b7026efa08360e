import { useSignal } from "@preact/signals";
import { reachable, useKey, wantsKey } from "../api/client";
import { route } from "../router";
import { dictionary, look, open, served } from "../state/session";
import { next, theme } from "../state/theme";
import { searching } from "../state/searching";
import { visible } from "../tokens/visible";
import { siteInWords } from "./site";

const PAGES = [["/", "chat", "Chat"], ["/inspect", "inspect", "Inspect"], ["/map", "map", "Map"]] as const;
const mac = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");

export function Header() {
  const at = route.value.page;
  return (
    <>
      <a class="skip" href="#page">Skip to the page</a>
      <header class="top">
        <a class="brand" href="/" aria-label="Pellucid studio">
          <img src="/icon.svg" alt="" width="22" height="22" /> <span>Pellucid</span>
        </a>
        <nav aria-label="Pages">
          {PAGES.map(([path, page, name]) => (
            <a key={page} href={path} aria-current={at === page ? "page" : undefined}>{name}</a>
          ))}
        </nav>
        <button type="button" class="find" onClick={() => (searching.value = true)}>
          <span>Search<span class="wide"> features</span></span> <kbd>{mac ? "⌘" : "Ctrl"} K</kbd>
        </button>
        <Served />
        <button type="button" class="plain" onClick={next} title="Colours: as the system has it, light or dark">
          <span aria-hidden="true">{{ system: "◐", light: "○", dark: "●" }[theme.value]}</span>
          <span class="unseen">Colours: {theme.value}</span>
        </button>
      </header>
      {!reachable.value && (
        <div class="banner" role="alert">
          The server does not answer. Is <code>pellucid studio</code> still running?{" "}
          <button type="button" onClick={() => void open()}>Try again</button>
        </div>
      )}
      {wantsKey.value && <Key />}
    </>
  );
}

function Served() {
  const now = served.value;
  if (!now) return null;
  const many = now.dictionaries.length > 1;
  return (
    <span class="served">
      <b title={now.model.pellucid.digest}>{visible(now.model.id)}</b>
      {many ? (
        <select aria-label="Dictionary" value={dictionary.value?.name} onChange={(e) => look(e.currentTarget.value)}>
          {now.dictionaries.map((d) => (
            <option key={d.name} value={d.name}>{visible(d.name)}</option>
          ))}
        </select>
      ) : (
        dictionary.value && (
          <span class="quiet" title={`The dictionary ${visible(dictionary.value.name)} reads ${siteInWords(visible(dictionary.value.site))}`}>
            {dictionary.value.features.toLocaleString("en")} features at {visible(dictionary.value.site)}
          </span>
        )
      )}
    </span>
  );
}

function Key() {
  const given = useSignal("");
  return (
    <form
      class="banner"
      onSubmit={(e) => {
        e.preventDefault();
        useKey(given.value);
        void open();
      }}
    >
      <label>
        This server wants a key. <input type="password" autocomplete="off" value={given.value} onInput={(e) => (given.value = e.currentTarget.value)} />
      </label>
      <button type="submit">Use it</button> <span class="quiet">It is kept in this tab alone.</span>
    </form>
  );
}
