import { render } from "preact";
import { useEffect } from "preact/hooks";
import { Failure, gone } from "./api/client";
import { ChatPage } from "./chat/page";
import { restore } from "./chat/keep";
import { FeaturePage } from "./feature/page";
import { InspectPage } from "./inspect/page";
import { Header } from "./parts/header";
import { Failed, Loading, useAsked } from "./parts/states";
import { Palette } from "./search/palette";
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
import "./style/inspect.css";
import "./style/feature.css";
import "./style/search.css";
import "./style/map.css";

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
      {searching.value && session.value !== null && !(session.value instanceof Failure) && <Palette />}
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
    case "inspect": return <InspectPage />;
    case "feature": return <FeaturePage key={`${at.dictionary}/${at.feature}`} name={at.dictionary} feature={at.feature} />;
    case "map": return <Suspended />;
    default: return <main class="page"><h1>There is no such page</h1><p><a href="/">To the chat</a></p></main>;
  }
}

/** The map is fetched when it is opened. */
function Suspended() {
  const [found, again] = useAsked(() => import("./map/page").catch(() => Promise.reject(gone())), []);
  if (found.state === "loading") return <main class="page"><Loading what="Opening the map" /></main>;
  if (found.state === "failed") return <main class="page"><Failed error={found.error} again={again} /></main>;
  const Shown = found.value.default;
  return <Shown />;
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
/** Show the conversation that is in the address, if there is one. */
async function shared(): Promise<void> {
  refused.value = null;
  try {
    const found = await fromLink(location.hash);
    if (found) await restore(found);
  } catch (error) {
    refused.value = error;
  }
}
void Promise.all([open(), load().catch(() => undefined)]).then(shared);
addEventListener("hashchange", () => void shared());
