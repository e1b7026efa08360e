"""`pellucid watch`: features lighting up while a model reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.cli.session import Session
    from pellucid.dictionaries.codes import Codes

app = App(name="watch", help_format="plaintext")


@app.default
def watch(
    text: str,
    /,
    *,
    dictionary: str = "smollm2",
    max_tokens: int = 48,
    feature: int | None = None,
    strongest: int = 10,
    temperature: float = 0.0,
    seed: int = 0,
    raw: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print a text tinted by its strongest features, then the model's answer the same way, token by token.

    Args:
        text: what the model reads: a message in a chat, or with --raw plain text to go on with.
        dictionary: the name of a shipped dictionary, or a folder.
        max_tokens: how long the answer may be; 0 reads only.
        feature: tint by this feature alone.
        strongest: how many features to list under the text.
        temperature: 0 takes the likeliest token, 1 samples from the model's own distribution.
        seed: fixes the choices.
        raw: take the text as it is, without the chat template.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import InputError
    from pellucid.models.generation import Generator, PromptRead, Sampling

    if max_tokens < 0:
        raise InputError(f"max_tokens counts the tokens of the answer, 0 or more; got {max_tokens}.")
    session = Session.open(dictionary)
    model = session.model
    if feature is not None:
        session.dictionary.check_feature(feature)
    prompt = model.encode_text(text) if raw else model.encode_chat([{"role": "user", "content": text}])
    start, stop = (0, len(prompt)) if raw else span_of(model.pieces(prompt), text)
    sampling = Sampling(max_tokens=max(1, max_tokens), temperature=temperature, seed=seed)
    seen = Seen(session, feature)
    out = printing.console()
    for event in Generator(model, [prompt], sampling, watch=[session.dictionary]):
        if isinstance(event, PromptRead):
            seen.add_prompt(prompt, event.codes[0][0], start, stop)
            if not json:
                out.print("reads  ", style="dim", end="")
                out.print(seen.text())
                out.print("\nwrites ", style="dim", end="") if max_tokens else None
            if max_tokens == 0:
                break
        elif event.live[0] and event.token_ids[0] not in model.end_ids:
            seen.add(event.token_ids[0], event.codes[0], event.logprobs[0])
            if not json:
                out.print(seen.text(last=True), end="")
    if json:
        named = session.labels({f["feature"] for t in seen.tokens for f in t["features"]})
        texts = {str(f): label.text for f, label in sorted(named.items()) if label.reliable}
        return printing.as_json({"dictionary": session.folder.name, "tokens": seen.tokens, "labels": texts})
    out.print("\n")
    found = seen.strongest(strongest)
    labels = session.labels(number for number, _, _ in found)
    rows = [
        (
            number,
            f"{share:.2f}",
            where,
            f"{session.dictionary.frequency[number]:.3%}" if session.dictionary.frequency is not None else "",
            *([labels[number].shown] if labels else []),
            " · ".join(session.promoted(number)),
        )
        for number, share, where in found
    ]
    heads = ["feature", "peak", "on", "active on", *(["switched on by"] if labels else []), "promotes"]
    printing.table(heads, rows)
    printing.note(
        "peak: share of the feature's maximum. active on: share of all tokens it was trained on. "
        f"A feature's page: pellucid atlas show {found[0][0] if found else 'FEATURE'}"
    )
    return None


@dataclass
class Seen:
    """What was active on the tokens so far."""

    session: Session
    only: int | None = None
    tokens: list[dict[str, Any]] = field(default_factory=list)
    _ids: list[int] = field(default_factory=list)

    def add_prompt(self, ids: list[int], codes: Codes, start: int, stop: int) -> None:
        """Take in the prompt's tokens of a span."""
        pieces = self.session.model.pieces(ids)
        for at in range(start, stop):
            row = codes.row(at) if at else ([], [])
            self._append("reads", pieces[at], ids[at], row, None)

    def add(self, token: int, codes: Codes, logprob: float) -> None:
        """Take in one written token."""
        self._ids.append(token)
        self._append("writes", self.session.model.pieces(self._ids)[-1], token, codes.row(0), logprob)

    def _append(self, role: str, piece: str, token: int, row: Any, logprob: float | None) -> None:
        shares = sorted(
            ((float(v) / self.session.unit(int(f)), int(f), float(v)) for f, v in zip(*row, strict=True)),
            reverse=True,
        )
        features = [{"feature": f, "value": v, "share": s} for s, f, v in shares]
        self.tokens.append(
            {"role": role, "piece": piece, "token": token, "logprob": logprob, "features": features}
        )

    def _share(self, token: dict[str, Any]) -> float:
        kept = [f["share"] for f in token["features"] if self.only in (None, f["feature"])]
        return float(max(kept, default=0.0))

    def text(self, *, last: bool = False) -> Any:
        """The tinted text of all tokens, or of the last."""
        from pellucid.cli import printing

        part = self.tokens[-1:] if last else self.tokens
        return printing.tinted([t["piece"] for t in part], [self._share(t) for t in part])

    def strongest(self, count: int) -> list[tuple[int, float, str]]:
        """The features with the highest peaks: number, peak share, and the token of the peak."""
        best: dict[int, tuple[float, str]] = {}
        for token in self.tokens:
            for f in token["features"]:
                if f["share"] > best.get(f["feature"], (0.0, ""))[0]:
                    best[f["feature"]] = (f["share"], token["piece"].strip() or repr(token["piece"]))
        if self.only is not None:
            best = {f: b for f, b in best.items() if f == self.only}
        ranked = sorted(best.items(), key=lambda item: -item[1][0])[:count]
        return [(f, share, where) for f, (share, where) in ranked]


def span_of(pieces: list[str], text: str) -> tuple[int, int]:
    """The pieces in which the last occurrence of a text lies; all of them when it is not there as it is."""
    whole = "".join(pieces)
    at = whole.rfind(text.strip())
    if at < 0:
        return 0, len(pieces)
    ends: list[int] = []
    total = 0
    for piece in pieces:
        total += len(piece)
        ends.append(total)
    first = next(i for i, end in enumerate(ends) if end > at)
    last = next(i for i, end in enumerate(ends) if end >= at + len(text.strip()))
    return first, last + 1
