"""`pellucid scale next`: the run that would sharpen a forecast most for its cost."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading
from pellucid.cli.scale_options import SOURCE, Source

app = App(name="next", help_format="plaintext")


@app.default
def next_run(
    runs: Path | None = None,
    /,
    *,
    source: Source = SOURCE,
    reading: Reading = AS_FOUND,
    parameters: str,
    tokens: str,
    smallest: str = "50M",
    fewest_tokens: str = "1B",
    budget: str = "1e21",
    noise: float | None = None,
    least: float = 0.05,
    shown: int = 8,
    json: Flag = False,
) -> None:
    """Propose the next run: what shrinks the variance of the forecast loss most for each FLOP.

    Runs are looked for on a grid from the smallest to what the budget allows. One that removes less than the
    least share of the variance is left out, however cheap. Needs a law with draws.

    Args:
        runs: a file with a row per run, which the law is fitted to.
        source: where the law is from.
        reading: how the file is read.
        parameters: the size whose loss is forecast, such as 70B.
        tokens: its training tokens, such as 1.4T.
        smallest: the smallest model that could be trained.
        fewest_tokens: the fewest tokens.
        budget: what the run may cost, in FLOPs.
        noise: how far log loss scatters about the law from run to run, such as 0.005 for half a per cent; by
            default as far as the runs do.
        least: the share of the forecast's variance a run must remove.
        shown: how many runs to list.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.scale_options import shown as told
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_amount
    from pellucid.scaling import next_run as proposing
    from pellucid.scaling.planning import TRAINING_FLOPS
    from pellucid.scaling.surface import Surface

    known, _ = source.read(runs, reading)
    if known.draws is None:
        raise InputError(
            f"The law {known.name!r} has no draws, so no run can be weighed: give a fit with draws."
        )
    scatter = known.noise if noise is None else noise
    if scatter is None:
        raise InputError("A law from a file does not say how far runs scatter about it: give --noise.")
    most, small, few = (parse_amount(text) for text in (budget, smallest, fewest_tokens))
    candidates = proposing.grid(
        (small, max(small, most / TRAINING_FLOPS / few)),
        (few, max(few, most / TRAINING_FLOPS / small)),
        most_flops=most,
    )
    predict = proposing.surface_predict(Surface.of(known.draws))
    target = parse_amount(parameters), parse_amount(tokens)
    found = proposing.propose(predict, target, candidates, noise=scatter)
    per_flop = proposing.best_per_flop(found, least=least)
    largest = proposing.best_within(found, most)
    listed = [p for p in found if p.shrinkage >= least][:shown]
    if json:
        value = {
            "law": known.name,
            "target": {"parameters": target[0], "tokens": target[1]},
            "before": found[0].before,
            "noise": scatter,
            "best_per_flop": vars(per_flop),
            "best_within_budget": vars(largest),
            "runs": [vars(p) for p in listed],
        }
        return printing.as_json(value)
    rows = [
        [
            told(p.N),
            told(p.D),
            told(p.flops),
            f"{p.shrinkage:.1%}",
            f"±{p.after:.2%}",
            told(p.per_flop * 1e20),
        ]
        for p in listed
    ]
    printing.table(
        ["parameters", "tokens", "FLOPs", "variance removed", "forecast after", "share per 1e20 FLOPs"],
        rows,
        title=f"Runs for the forecast at {told(target[0])} parameters and {told(target[1])} tokens",
    )
    for note in known.notes:
        printing.note(note)
    printing.note(f"Runs scatter about the law by {scatter:.2%}.")
    printing.note(f"Without them the forecast stands at ±{found[0].before:.2%}, one standard deviation.")
    printing.note(
        f"Of all runs in the budget, {told(largest.N)} parameters on {told(largest.D)} tokens remove most: "
        f"{largest.shrinkage:.1%}, for {told(largest.flops)} FLOPs."
    )
    printing.note("This weighs the law's own uncertainty; a run far outside its range also tests its form.")
    return None
