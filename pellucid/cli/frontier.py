"""The plot of what sparsity costs: features active per token against variance unexplained and loss added.

Cards in, an SVG file out: a point for each dictionary and, lighter, for random directions and PCA of equal L0
measured beside it, with 95 % intervals. Down and to the left is better. Knows matplotlib, and no room.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from pellucid.dictionaries.files import Card

_MARKERS = {"dictionary": "o", "random": "^", "pca": "s"}
_LABELS = {"random": "random directions", "pca": "PCA of equal L0"}
# Told apart by people who see no red or green, too (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_GREY = "#8a8a8a"


def draw(cards: dict[str, Card], path: Path) -> None:
    """Write the plot.

    Args:
        cards: by the name to show.
        path: a file that does not exist yet, ending in .svg.

    Raises:
        InputError: when the path ends otherwise or exists.
        MissingDependencyError: when matplotlib is not installed.
    """
    check(path)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "eval", "Drawing the plot") from error
    with mpl.rc_context({"svg.hashsalt": "pellucid", "font.size": 9}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, label in zip(panels, ("variance unexplained", "loss added, nats per token"), strict=True):
            panel.set(xscale="log", yscale="log", xlabel="features active per token", ylabel=label)
            panel.spines[["top", "right"]].set_visible(False)
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        for number, (name, card) in enumerate(cards.items()):
            for method, quality in card["quality"]["methods"].items():
                own = method == "dictionary"
                told = name if own else (_LABELS[method] if number == 0 else None)
                colour = _COLOURS[number % len(_COLOURS)] if own else _GREY
                style = {"fmt": _MARKERS[method], "color": colour, "label": told, "ms": 5, "capsize": 2}
                for panel, value in zip(panels, (quality["unexplained"], _added(card, quality)), strict=True):
                    panel.errorbar(
                        quality["l0"]["value"],
                        value["value"],
                        xerr=_arms(quality["l0"]),
                        yerr=_arms(value),
                        **style,
                    )
        for panel in panels:
            _widen(panel)
        handles, labels = panels[0].get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        ordered = [*cards, *(label for label in _LABELS.values() if label in shown)]
        figure.legend([shown[n] for n in ordered], ordered, loc="outside right upper", frameon=False)
        _save(figure, path)


def _widen(panel: Any) -> None:
    """Let each axis span a factor of four at least, so that small differences look small."""
    for (low, high), limit in ((panel.get_xlim(), panel.set_xlim), (panel.get_ylim(), panel.set_ylim)):
        grown = max(1.0, 4 * low / high) ** 0.5
        limit(low / grown, high * grown)


def check(path: Path) -> None:
    """Refuse a path that nothing would be written to.

    Raises:
        InputError: when it does not end in .svg, or exists.
    """
    if path.suffix != ".svg":
        raise InputError(f"The plot is written as SVG; got {str(path)!r}. Give a name that ends in .svg.")
    if path.exists():
        raise InputError(f"{str(path)!r} exists already. Choose another name, or remove it first.")


def _added(card: Card, quality: dict[str, Any]) -> dict[str, float]:
    """The loss that a reconstruction adds, from the share of it that is recovered."""
    q = card["quality"]
    span = q["ce_zero"] - q["ce_plain"]
    recovered = quality["ce_recovered"]
    return {
        "value": (1 - recovered["value"]) * span,
        "low": (1 - recovered["high"]) * span,
        "high": (1 - recovered["low"]) * span,
    }


def _arms(figure: dict[str, float]) -> list[list[float]]:
    return [[max(0.0, figure["value"] - figure["low"])], [max(0.0, figure["high"] - figure["value"])]]


def _save(figure: Any, path: Path) -> None:
    import io

    from pellucid.core import files

    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    files.write_text(path, drawn.getvalue())
