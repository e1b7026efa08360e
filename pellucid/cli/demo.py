"""`pellucid demo`: the whole journey in a few minutes, with a page to keep."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.cli.session import Session

app = App(name="demo", help_format="plaintext")

_CONCEPTS = ("ocean", "music", "praise")


@app.default
def demo(
    *,
    out: Path = Path("demo"),
    dictionary: str = "smollm2",
    train: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Read a text, find features by example sentences, turn one up, and measure what that did.

    A page about it is written to the folder.

    Args:
        out: the folder for report.html, and for the dictionary that --train makes.
        dictionary: the name of a shipped dictionary, or a folder.
        train: train a small dictionary from scratch first (under 20 minutes on two cores) and use that.
        json: print what the page shows as JSON.
    """
    from pellucid.cli import journey, printing, report
    from pellucid.cli.session import Session
    from pellucid.core import files

    started = time.monotonic()
    if train:
        dictionary = str(_train_small(out, quiet=json))
    say = (lambda _text: None) if json else _heading
    with printing.progress(quiet=json) as progress:
        say("1  Load the model and its dictionary")
        session = Session.open(dictionary)
        if not json:
            printing.console().print(_opening(session))
        say("2  Read a text: every token tinted by its strongest feature")
        reading = journey.read(session)
        if not json:
            _show_reading(session, reading)
        say("3  Find features by example sentences")
        found = journey.find(session, _CONCEPTS)
        if not json:
            _show_found(session, found)
        say("4  Turn candidates up, and keep the one that writes its concept best")
        chosen = journey.choose(session, found, progress)
        steering = journey.turn_up(session, chosen, progress)
    if not json:
        _show_steering(steering)
    features = [*(s["feature"] for s in reading["strongest"]), steering["feature"]]
    features += [c.feature for candidates in found.values() for c in candidates[:3]]
    others = [int(t[0]) for top in reading["tops"] for t in top]
    data: dict[str, Any] = {
        "title": "Inside a language model",
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": "pellucid demo" + (" --train" if train else ""),
        "seconds": time.monotonic() - started,
        "model": {
            "name": session.card.get("model_reference"),
            "digest": session.model.digest,
            "layers": session.model.num_layers,
            "width": session.model.width,
            "precision": str(session.model.dtype).removeprefix("torch."),
        },
        "dictionary": {
            "name": session.folder.name,
            "site": str(session.dictionary.ports),
            "features": session.dictionary.num_features,
            "tokens": session.card.get("tokens"),
            "quality": _quality(session),
        },
        "reading": reading,
        "features": journey.feature_pages(session, features, others),
        "found": [
            {
                "concept": name,
                "feature": c.feature,
                "score": c.output,
                "separation": {"for": c.on_concept, "against": c.on_neutral},
                "promotes": session.promoted(c.feature),
            }
            for name, candidates in found.items()
            for c in candidates[:3]
        ],
        "steering": steering,
    }
    page = out / "report.html"
    files.write_text(page, report.render(data))
    if json:
        return printing.as_json(data)
    _heading(f"5  The page: {page}   ({data['seconds']:.0f} s in all)")
    printing.console().print(f"\nSee it in a browser: {opening(dictionary)}", markup=False)
    return None


def opening(dictionary: str) -> str:
    """The command that opens the studio over a dictionary, by the name this program was called by."""
    called = sys.argv[0]
    again = Path(called).name == "pellucid" and shutil.which("pellucid") != called
    shown = "--demo" if dictionary == "smollm2" else f"--dictionary {dictionary}"
    return f"{called if again else 'pellucid'} studio {shown}"


def _train_small(out: Path, *, quiet: bool) -> Path:
    """Train 4,096 features on 800,000 tokens; resumable, and used again if it is there."""
    from pellucid.cli import printing
    from pellucid.cli.train import train

    run = out / "run"
    if not quiet:
        printing.note("training a small dictionary first; stop it at any moment, the same command goes on")
    train(
        out=run,
        text=[
            "pypi:sae-probes==0.4.2#sae_probes/data/cleaned_data/*.csv.zst?skip=*_hist_fig*|*_us_*|*_nyc_*&tokens=1.5M"
        ],
        features=("4096",),
        tokens="800k",
        atlas_tokens="150k",
        json=quiet,
    )
    return run / "result"


def _heading(text: str) -> None:
    from pellucid.cli import printing

    printing.console().print(f"\n{text}", style="bold")


def _opening(session: Session) -> str:
    return (
        f"{session.card.get('model_reference')}: {session.model.num_layers} layers, "
        f"width {session.model.width}, {session.model.dtype}. "
        f"{session.dictionary.num_features:,} features at {session.dictionary.ports}."
    )


def _show_reading(session: Session, reading: dict[str, Any]) -> None:
    from pellucid.cli import printing

    shares = [top[0][2] if top else 0.0 for top in reading["tops"]]
    printing.console().print(printing.tinted(reading["pieces"], shares))
    rows = []
    for item in reading["strongest"][:8]:
        where = max(
            range(len(reading["tops"])),
            key=lambda i: max((t[2] for t in reading["tops"][i] if t[0] == item["feature"]), default=0.0),
        )
        rows.append(
            (
                item["feature"],
                f"{item['peak']:.2f}",
                reading["pieces"][where].strip(),
                " · ".join(session.promoted(item["feature"])),
            )
        )
    printing.console().print()
    printing.table(["feature", "peak", "on", "promotes"], rows)


def _show_found(session: Session, found: dict[str, Any]) -> None:
    from pellucid.cli import printing

    rows = [
        (
            name,
            candidate.feature,
            f"{candidate.on_concept:.2f}",
            f"{candidate.on_neutral:.2f}",
            f"{candidate.output:.1f}",
            " · ".join(session.promoted(candidate.feature)),
        )
        for name, candidates in found.items()
        for candidate in candidates[:3]
    ]
    printing.table(("concept", "feature", "fires with", "without", "writes it", "promotes"), rows)


def _show_steering(steering: dict[str, Any]) -> None:
    from rich.table import Table

    from pellucid.cli import printing

    out = printing.console()
    receipt = steering["receipt"]
    out.print(
        f"feature {steering['feature']} ({' · '.join(steering['promotes'][:6])}) held at "
        f"{steering['strength']:g} × its maximum\n",
        style="dim",
    )
    out.print(f"[bold]{steering['prompt']}[/bold]")
    columns = Table(box=None, expand=True, padding=(0, 3, 1, 0), header_style="dim")
    columns.add_column("plain", ratio=1)
    columns.add_column("steered", ratio=1)
    columns.add_row(
        *(
            printing.tinted(steering[side]["pieces"], steering[side]["values"])
            for side in ("plain", "steered")
        )
    )
    out.print(columns)
    printing.table(
        ["receipt", "before", "asked", "reached", "tokens", "KL (nats)"],
        [
            (
                receipt["edit"],
                *(f"{receipt[k]:.2f}" for k in ("before", "asked", "reached")),
                receipt["tokens"],
                f"{receipt['kl']:.2f}",
            )
        ],
    )
    out.print()
    rows = [
        (
            arm["name"],
            f"{arm['hits']} of {arm['samples']}",
            f"{arm['low']:.0%} to {arm['high']:.0%}",
            f"{arm['perplexity']:.1f}",
        )
        for arm in steering["effect"]
    ]
    printing.table([f"answers about {steering['concept']}", "", "95 % interval", "perplexity"], rows)


def _quality(session: Session) -> list[dict[str, Any]]:
    """The card's figures in the form the page draws."""
    from pellucid.cli.quality import FIGURES

    q = session.card["quality"]
    rows: list[dict[str, Any]] = []
    for name, label, aim in FIGURES:
        by = {m: q["methods"][m][name] for m in ("dictionary", "random", "pca")}
        rows.append(
            {
                "name": label,
                "value": by["dictionary"]["value"],
                "low": by["dictionary"]["low"],
                "high": by["dictionary"]["high"],
                "random": by["random"]["value"],
                "pca": by["pca"]["value"],
                "better": aim,
            }
        )
    rows.append(
        {
            "name": "dead features",
            "value": q["methods"]["dictionary"]["dead"],
            "random": q["methods"]["random"]["dead"],
            "pca": None,
            "better": "lower",
        }
    )
    return rows
