import { render } from "preact";
import { useEffect } from "preact/hooks";
import { Failure } from "./api/client";
import { ChatPage } from "./chat/page";
import { restore } from "./chat/keep";
import { Header } from "./parts/header";
import { Failed, Loading } from "./parts/states";
import { follow, route } from "./router";
import { load } from "./state/demo";
import { searching } from "./state/searching";
import { open, session } from "./state/session";
import { fromLink } from "./state/share";
import { apply } from "./state/theme";
import { Card } from "./tokens/card";
import { close, looking } from "./tokens/looking";
import { signal } from "@preact/signals";
import "./style/tokens.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/chat.css";

const refused = signal<unknown>(null);

const TITLES = { chat: "Chat", inspect: "Inspect", map: "Map", feature: "Feature", nowhere: "Nothing here" };

function App() {
  const at = route.value;
  useEffect(() => {
    document.title = `${at.page === "feature" ? `Feature ${at.feature}` : TITLES[at.page]} · Pellucid studio`;
    close();
  }, [at]);
  return (
    <>
      <Header />
      <div id="page" tabIndex={-1}>
        {refused.value !== null && <Failed error={refused.value} />}
        <Page />
      </div>
      <Card />
    </>
  );
}

function Page() {
  const at = route.value;
  const now = session.value;
  if (now === null) return <main><Loading what="Asking the server what it serves" /></main>;
  if (now instanceof Failure) return <main><Failed error={now} again={() => void open()} /></main>;
  switch (at.page) {
    case "chat": return <ChatPage />;
    default: return <main class="page"><h1>There is no such page</h1><p><a href="/">To the chat</a></p></main>;
  }
}

apply();
follow();
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    searching.value = !searching.value;
  } else if (event.key === "Escape" && looking.value) close();
});
addEventListener("pointerdown", (event) => {
  const target = event.target as Element;
  if (looking.value?.held && !target.closest("#card, .tk")) close();
});
const root = document.getElementById("app");
if (root) render(<App />, root);
void (async () => {
  await Promise.all([open(), load().catch(() => undefined)]);
  try {
    const shared = await fromLink(location.hash);
    if (shared) await restore(shared);
  } catch (error) {
    refused.value = error;
  }
})();
