/** One question and what was answered: one column, or plain and edited side by side. */
import { answer, answerOf, room, type Side, type Turn } from "../state/conversation";
import { known, said } from "../state/known";
import { inWords } from "../state/pins";
import { Strip } from "../tokens/strip";
import { visible } from "../tokens/visible";
import { Receipts } from "./receipts";

export function TurnView({ turn, last }: { turn: Turn; last: boolean }) {
  const plain = turn.plain.value;
  const edited = turn.edited.value;
  const asked = turn.asked.value;
  const both = plain !== null && edited !== null;
  return (
    <article class="turn-of" aria-label="Question and answer">
      <div class="asked">
        {asked ? <Strip tokens={asked} label="What was asked" /> : <div class="strip"><div class="line" dir="auto">{visible(turn.user)}</div></div>}
      </div>
      <div class={both ? "sides both" : "sides"}>
        {plain && <SideView side={plain} title={both ? "plain" : null} />}
        {edited && <SideView side={edited} title={both ? "turned" : "with turned features"} />}
      </div>
      {last && answerOf(turn) && <Below turn={turn} />}
    </article>
  );
}

function Below({ turn }: { turn: Turn }) {
  const status = answerOf(turn)?.status.value;
  if (status === "writing") return null;
  return (
    <p class="below">
      <button type="button" class="plain" onClick={() => answer(turn)}>↻ write again</button>
    </p>
  );
}

export function SideView({ side, title, only }: { side: Side; title: string | null; only?: number }) {
  const status = side.status.value;
  void side.tokens.version.value;
  void known.version.value;
  return (
    <section class="side" aria-label={title ? `The answer, ${title}` : "The answer"} aria-busy={status === "writing"}>
      {title && (
        <header>
          <h3>{title}</h3>
          {side.edits.map((edit) => (
            <span class="quiet small" key={edit.feature}>
              {visible(said(known.words(edit.feature), 2).text)} {inWords(edit)}
            </span>
          ))}
        </header>
      )}
      {side.tokens.length > 0 ? (
        <Strip tokens={side.tokens} label="The answer" {...(only === undefined ? {} : { only })} />
      ) : (
        status === "writing" && <p class="quiet" role="status"><span class="pulse" aria-hidden="true" /> reading the question…</p>
      )}
      {status === "failed" && <p class="failed" role="alert">{visible(side.error.value ?? "")}</p>}
      <p class="quiet small number">{note(side)}</p>
      <Receipts receipts={side.receipts.value} />
      {side.reread.value && <p class="quiet small">Read again from its text, without the edits it was written under.</p>}
    </section>
  );
}

function note(side: Side): string {
  const { length } = side.tokens;
  const count = `${length} tokens`;
  switch (side.status.value) {
    case "writing": return length ? `${count} so far` : "";
    case "stopped": return `stopped after ${count}`;
    case "failed": return length ? `${count} had come` : "";
    case "cut":
      return `${count}${speed(side)}; ${side.used.value >= room.value ? "the conversation has filled its room" : "cut at the length you set"}`;
    case "done": return length ? `${count}${speed(side)}` : "The model ended its answer before the first word.";
  }
}

const speed = (side: Side): string =>
  side.seconds.value ? `, ${(side.tokens.length / side.seconds.value).toFixed(0)} per second` : "";
