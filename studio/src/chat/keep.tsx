/** Recipes, and the conversation as a file or a link. */
import { useState } from "preact/hooks";
import { keepRecipe, recipe, recipeNames, removeRecipe } from "../api/client";
import { save } from "../parts/file";
import { Dialog } from "../parts/dialog";
import { Empty, Failed, Loading, useAsked } from "../parts/states";
import { type Kept, kept, reopen, turns } from "../state/conversation";
import { change, edits, inWords, pin, take } from "../state/pins";
import { dictionary, look, served } from "../state/session";
import { known, said } from "../state/known";
import { MOST_LINK, parse, toLink } from "../state/share";
import { visible } from "../tokens/visible";

/** What the server takes; browsers read patterns with the flag v, where a hyphen in a class is escaped. */
const NAME = String.raw`[a-z0-9][a-z0-9_\-]{0,63}`;

export function Recipes({ close }: { close: () => void }) {
  const [names, again] = useAsked(() => recipeNames(), []);
  const [name, setName] = useState("");
  const [note, setNote] = useState("");
  const [told, tell] = useState<string | null>(null);
  const [error, fail] = useState<unknown>(null);
  const wanted = edits.value;
  const attempt = async (work: () => Promise<string>): Promise<void> => {
    fail(null);
    tell(null);
    try {
      tell(await work());
    } catch (e) {
      fail(e);
    }
  };
  const save = () =>
    attempt(async () => {
      const given = { dictionary: dictionary.value?.name ?? null, edits: wanted, note };
      await keepRecipe(name, given);
      again();
      return `Kept as ${name}. A program uses it by that name: "pellucid": {"recipe": "${name}"}.`;
    });
  const use = (which: string) =>
    attempt(async () => {
      const found = await recipe(which);
      const left = take(found.edits);
      return `${which}: turned features: ${found.edits.length - left}.` + (left ? ` ${left} more had no colour left; unpin some.` : "");
    });
  return (
    <Dialog title="Recipes" close={close}>
      <p class="quiet">A recipe keeps what you turned under a name, on the server's machine, for this page and for programs.</p>
      {wanted.length > 0 ? (
        <form
          class="stack"
          onSubmit={(e) => {
            e.preventDefault();
            void save();
          }}
        >
          <ul class="plain-list">
            {wanted.map((e) => (
              <li key={e.feature}>
                {visible(said(known.words(e.feature), 3).text)} <span class="quiet">{inWords(e)}</span>
              </li>
            ))}
          </ul>
          <label>
            Name <input value={name} required pattern={NAME} placeholder="music" title="Small letters, digits, - and _" maxLength={64} onInput={(e) => setName(e.currentTarget.value)} />
          </label>
          <label>
            Note <input value={note} maxLength={2000} placeholder="what it is for" onInput={(e) => setNote(e.currentTarget.value)} />
          </label>
          <button type="submit" class="first">Keep</button>
        </form>
      ) : (
        <p>Turn a feature up or down, and it can be kept here.</p>
      )}
      {told && <p role="status" class="good">{visible(told)}</p>}
      {error !== null && <Failed error={error} />}
      <h3>Kept</h3>
      {names.state === "loading" && <Loading what="Looking up recipes" />}
      {names.state === "failed" && <Failed error={names.error} again={again} />}
      {names.state === "there" && names.value.length === 0 && <Empty><p>There is none yet.</p></Empty>}
      {names.state === "there" && (
        <ul class="plain-list rows">
          {names.value.map((each) => (
            <li key={each}>
              <b>{visible(each)}</b>
              <button type="button" onClick={() => void use(each)}>Use</button>
              <button
                type="button"
                class="plain"
                aria-label={`Remove the recipe ${each}`}
                onClick={() =>
                  void attempt(async () => {
                    await removeRecipe(each);
                    again();
                    return `${each} is removed.`;
                  })
                }
              >
                remove
              </button>
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}

export function Share({ close }: { close: () => void }) {
  const [told, tell] = useState<string | null>(null);
  const [link, setLink] = useState<string | null>(null);
  const [error, fail] = useState<unknown>(null);
  const now = (): Kept => kept(served.value?.model.id ?? "");
  const makeLink = async (): Promise<void> => {
    fail(null);
    const made = location.origin + "/" + (await toLink(now()));
    if (made.length > MOST_LINK) return fail(new Error("The conversation is too long for a link. Save it as a file."));
    setLink(made);
    await navigator.clipboard?.writeText(made).then(() => tell("Copied."), () => undefined);
  };
  const open = async (file: File | undefined): Promise<void> => {
    fail(null);
    if (!file) return;
    try {
      if (file.size > 20_000_000) throw new Error("The file is too large to be a conversation.");
      await restore(parse(await file.text()));
      close();
    } catch (e) {
      fail(e);
    }
  };
  return (
    <Dialog title="Share" close={close}>
      <p class="quiet">What was asked and answered, and the features you pinned. Whoever opens it sees it in a studio of the same model; nothing is uploaded.</p>
      <div class="stack">
        <button type="button" class="first" disabled={!turns.value.length} onClick={() => save("conversation.pellucid.json", JSON.stringify(now(), null, 1))}>
          Save as a file
        </button>
        <button type="button" disabled={!turns.value.length} onClick={() => void makeLink()}>Make a link</button>
        {link !== null && <input readOnly aria-label="Link" value={link} onFocus={(e) => e.currentTarget.select()} />}
        <label class="button">
          Open a file
          <input type="file" accept="application/json,.json" onChange={(e) => void open(e.currentTarget.files?.[0])} />
        </label>
      </div>
      {told && <p role="status" class="good">{told}</p>}
      {error !== null && <Failed error={error} />}
    </Dialog>
  );
}

/** Show a conversation, through the dictionary it was seen through. */
export async function restore(from: Kept): Promise<void> {
  const has = served.value?.dictionaries.some((d) => d.name === from.dictionary);
  if (from.dictionary !== null && has) look(from.dictionary);
  if (has) {
    const most = dictionary.value?.features ?? 0;
    for (const { feature, ...rest } of from.pins) if (feature < most && pin(feature)) change(feature, rest);
  }
  await reopen(from);
}
