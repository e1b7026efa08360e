"""How a full evaluation is printed: of one dictionary beside its baselines, or of several, a row each."""

from __future__ import annotations

from typing import Any

_METHODS = (
    ("dictionary", "dictionary"),
    ("random", "random directions"),
    ("neurons", "raw neurons"),
    ("dense", "dense probe"),
)
_COUNTS = (("1", "1 feature"), ("5", "5 features"), ("all", "all features"))
_ABSORPTION = (
    ("one_f1", "F1 of a letter's best feature", 2),
    ("split_f1", "F1 of its features", 2),
    ("features", "features of a letter", 1),
    ("fraction", "absorbed, mean part", 3),
    ("full", "absorbed wholly, share of words", 3),
)
_SAMPLE = (
    ("unexplained", "variance unexplained"),
    ("l0", "features active per token"),
    ("dense", "dense features"),
)


def print_full(found: dict[str, Any]) -> None:
    """Print the evaluation of one dictionary, given as JSON values."""
    from pellucid.cli import printing

    console = printing.console()
    console.print(f"\nSparse probing: AUC on {found['sets']} labelled sets (chance: 0.5)")
    printing.table(
        ["", *(label for _, label in _COUNTS)],
        [
            [label, *(_figure(found["probing"][m].get(count), 3) for count, _ in _COUNTS)]
            for m, label in _METHODS
        ]
        + [["gain", *(_signed(found["gains"][count]) for count, _ in _COUNTS)]],
    )
    printing.note(
        "gain: over raw neurons, with all features over the dense probe; in brackets: 95 % bootstrap "
        f"intervals over {found['groups']} groups of sets that share texts"
    )
    own = found["absorption"]["dictionary"]
    if own is None:
        printing.note(
            "absorption is not measured: no dense probe finds a first letter in this model's activations"
        )
    else:
        console.print(
            f"\nFirst letters: {len(own['letters'])} letters, {own['words']:,} words "
            f"(F1 of the dense probe: {own['dense_f1']:.2f})"
        )
        both = [found["absorption"][m] for m in ("dictionary", "random")]
        printing.table(
            ["", "dictionary", "random directions"],
            [[label, *(_figure(m[name], digits) for m in both)] for name, label, digits in _ABSORPTION],
        )
    console.print(f"\nOn {found['tokens']:,} tokens of the sets' texts")
    printing.table(
        ["", "dictionary", "random directions"],
        [[label, *(_figure(found[name][m], 3) for m in ("dictionary", "random"))] for name, label in _SAMPLE],
    )
    printing.note(_cost(found))


def print_full_comparison(found: dict[str, dict[str, Any]], site: str) -> None:
    """Print the evaluations of several dictionaries of one site, a row each, with baselines below."""
    from pellucid.cli import printing

    first = next(iter(found.values()))
    console = printing.console()
    console.print(f"\nSparse probing at {site}: AUC on {first['sets']} labelled sets (chance: 0.5)")
    rows = [(name, one["probing"]["dictionary"]) for name, one in found.items()]
    rows += [(f"{label} of the first", first["probing"][m]) for m, label in _METHODS[1:2]]
    rows += [(label, first["probing"][m]) for m, label in _METHODS[2:]]
    printing.table(
        ["", *(label for _, label in _COUNTS)],
        [[name, *(_figure(by.get(count), 3) for count, _ in _COUNTS)] for name, by in rows],
    )
    if first["absorption"]["dictionary"] is not None:
        console.print("\nFirst letters")
        measured = [(name, one["absorption"]["dictionary"]) for name, one in found.items()]
        measured.append(("random directions of the first", first["absorption"]["random"]))
        printing.table(
            ["", *(label for _, label, _ in _ABSORPTION)],
            [[name, *(_figure(m[key], digits) for key, _, digits in _ABSORPTION)] for name, m in measured],
        )
    console.print(f"\nOn {first['tokens']:,} tokens of the sets' texts, the same for all")
    sampled = [(name, one, "dictionary") for name, one in found.items()]
    sampled.append(("random directions of the first", first, "random"))
    printing.table(
        ["", *(label for _, label in _SAMPLE)],
        [[name, *(_figure(one[key][m], 3) for key, _ in _SAMPLE)] for name, one, m in sampled],
    )
    for name, one in found.items():
        printing.note(f"{name}: {_cost(one)}")


def _cost(found: dict[str, Any]) -> str:
    seconds = found["seconds"]
    return (
        f"took {seconds['ground']:.0f} s for what all dictionaries of the site share, "
        f"{seconds['dictionary']:.0f} s for the dictionary, {seconds['random']:.0f} s for random directions"
    )


def _figure(figure: dict[str, float] | None, digits: int) -> str:
    if figure is None:
        return ""
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def _signed(figure: dict[str, float]) -> str:
    return f"{figure['value']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]".replace("-", "−")
