"""Plots of a law: one self-contained HTML page, or a PNG.

A `Page` is some panels, each drawn on axes of matplotlib, with a table and notes. `write` puts it into a
file by the file's ending; the HTML asks the network for nothing, and its plots are SVG. `of_fit` and
`of_forecast` make the pages of the two verbs; a plan makes its own from the same parts. matplotlib comes
with the extra `eval`.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from pellucid.core import files
from pellucid.core.errors import InputError, MissingDependencyError
from pellucid.core.numbers import short_amount
from pellucid.scaling.alarms import valleys
from pellucid.scaling.arrays import between
from pellucid.scaling.backtest import LAST, Member, fitted
from pellucid.scaling.choice import ENSEMBLE, Choice
from pellucid.scaling.fit import Fit
from pellucid.scaling.forecast import Forecast, forecast
from pellucid.scaling.forms import PLAIN
from pellucid.scaling.profiles import Profile
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import Draws

INK, LINE, BAND, POINT, NEW = "#2b2b2b", "#c9680f", "#f2ac52", "#7d8a99", "#1f5fa8"
QUIET = "#8a8a8a"  # of lines that something is held against
_STYLE = {
    "font.size": 10.0, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": "#5a5a5a", "ytick.color": "#5a5a5a",
    "axes.titlesize": 11.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10.0,
    "legend.edgecolor": "none", "legend.framealpha": 0.85, "figure.facecolor": "white",
    "svg.hashsalt": "pellucid", "svg.fonttype": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    caption: str
    draw: Callable[[Any], None]
    """Draws on axes of matplotlib."""


@dataclass(frozen=True)
class Page:
    """Some panels with a table and notes."""

    title: str
    subtitle: str
    panels: tuple[Panel, ...]
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def write(path: Path, page: Page) -> None:
    """Write a page as .html or .png; a file of that name is replaced when the new one is whole.

    Raises:
        InputError: when the name ends otherwise.
        MissingDependencyError: when matplotlib is not installed.
    """
    if path.suffix.lower() not in (".html", ".png"):
        raise InputError(f"A page is written to a name that ends in .html or .png; got {str(path)!r}.")
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "eval", "A page of plots") from error
    with rc_context(_STYLE):
        if path.suffix.lower() == ".png":
            columns = min(2, len(page.panels))
            lines = math.ceil(len(page.panels) / columns)
            figure = Figure(figsize=(6.4 * columns, 4.4 * lines + 0.8), dpi=144, layout="constrained")
            FigureCanvasAgg(figure)
            figure.suptitle(page.title, x=0.01, ha="left", fontsize=14, fontweight="bold")
            for index, panel in enumerate(page.panels):
                _drawn(figure.add_subplot(lines, columns, index + 1), panel)
            image = io.BytesIO()
            figure.savefig(image, format="png")
            with files.replacing(path) as file:
                file.write(image.getvalue())
            return
        drawings = []
        for panel in page.panels:
            figure = Figure(figsize=(7.0, 4.4), layout="constrained")
            _drawn(figure.add_subplot(), panel)
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            drawings.append(text.getvalue()[text.getvalue().index("<svg") :])
    files.write_text(path, _html(page, drawings))


def _drawn(axes: Any, panel: Panel) -> None:
    panel.draw(axes)
    axes.set_title(panel.title)
    axes.tick_params(length=3)


def _html(page: Page, drawings: Sequence[str]) -> str:
    figures = "\n".join(
        f"<figure>{svg}<figcaption>{html.escape(panel.caption)}</figcaption></figure>"
        for panel, svg in zip(page.panels, drawings, strict=True)
    )
    table = ""
    if page.rows:
        head = "".join(f"<th>{html.escape(h)}</th>" for h in page.headers)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in page.rows
        )
        table = f"<div class='table'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in page.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(page.title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; background: #fff;
  max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
.sub {{ color: #5a5a5a; margin: .2rem 0 1.2rem; }}
.panels {{ display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }}
figure {{ margin: 0; border: 1px solid #e4e0d8; border-radius: 8px; padding: .8rem; min-width: 0; }}
figure svg {{ width: 100%; height: auto; }}
figcaption, ul {{ color: #5a5a5a; font-size: .88rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 1.2rem 0; }}
th {{ color: #5a5a5a; font-weight: 500; text-align: left; }}
th, td {{ padding: .25rem 1.1rem .25rem 0; border-bottom: 1px solid #eee; }}
td {{ font-variant-numeric: tabular-nums; }}
ul {{ padding-left: 1.1rem; }}
</style></head><body>
<h1>{html.escape(page.title)}</h1><p class="sub">{html.escape(page.subtitle)}</p>
<div class="panels">
{figures}
</div>
{table}<ul>{notes}</ul>
</body></html>
"""


def of_fit(
    draws: Draws,
    profiled: Sequence[Profile],
    *,
    headers: tuple[str, ...] = (),
    rows: tuple[tuple[str, ...], ...] = (),
    notes: Sequence[str] = (),
) -> Page:
    """The page of a fit: the law over its runs, valleys, residuals, and the profile of each parameter.

    Args:
        draws: the fit with its draws.
        profiled: the profiles to draw.
        headers: the columns of a table to show below the plots.
        rows: its rows.
        notes: what to say below it.
    """
    law = draws.fit
    panels = [
        Panel(
            _title(law.runs),
            "Each point is a run, in the colour of its tokens per parameter where it has both. "
            + _drawn_law(law),
            lambda axes: _law(axes, draws),
        )
    ]
    if "N" in law.form.variables and valleys(law.runs):
        panels.append(
            Panel(
                "Runs of equal compute",
                "Runs at each level of compute against their size, with the law at that level and its "
                "lowest point.",
                lambda axes: _valleys(axes, law),
            )
        )
    panels.append(
        Panel(
            "What the law leaves",
            "Log residuals in the order of the runs. A slope or a bend here means that another form is "
            "needed.",
            lambda axes: _residuals(axes, law),
        )
    )
    panels += [
        Panel(
            f"Profile of {p.name}",
            f"How much worse the best law gets with {p.name} held there. The {p.nominal:.0%} interval ends "
            "where the curve crosses the dashed line.",
            lambda axes, p=p: _profile(axes, p),  # type: ignore[misc]
        )
        for p in profiled
    ]
    return Page(
        f"{law.form.name} on {len(law.runs)} runs",
        f"{law.form.title}. {law.form.source}. Loss {law.loss}, objective {law.objective:.6g}.",
        tuple(panels),
        headers,
        rows,
        tuple(notes),
    )


def of_forecast(
    runs: Runs,
    made: Forecast,
    choice: Choice | None,
    outcomes: Sequence[float] | None,
    *,
    headers: tuple[str, ...] = (),
    rows: tuple[tuple[str, ...], ...] = (),
    notes: Sequence[str] = (),
) -> Page:
    """The page of a forecast: the way to the targets with its band, and the errors of the backtests.

    Args:
        runs: what was made.
        made: the forecast.
        choice: the members ranked, where they could be.
        outcomes: what came, one for each target, where it is known.
        headers: the columns of a table to show below the plots.
        rows: its rows.
        notes: what to say below it.
    """
    panels = [
        Panel(
            _title(runs),
            f"Runs, and the forecast ({made.member}) with its {made.nominal:.0%} interval on the straight "
            "way from the "
            "best of the largest runs to the furthest target. Widths come from backtests inside the data.",
            lambda axes: _forecast(axes, runs, made, choice, outcomes),
        )
    ]
    if choice is not None:
        panels.append(
            Panel(
                "Errors in backtests",
                f"Root mean square log error from {len(choice.at)} origins inside the data, a point each; "
                "the bar is their mean, by which members are ranked. The grey one repeats the last value.",
                lambda axes: _ranking(axes, choice),
            )
        )
    return Page(
        f"Forecast of {runs.metric} from {len(runs)} runs",
        f"By {made.member}, calibrated on {made.origins} backtests.",
        tuple(panels),
        headers,
        rows,
        tuple(notes),
    )


def _name(runs: Runs) -> str:
    told = {"C": "training compute (FLOPs)", "D": "tokens", "N": "parameters", "year": "year"}
    name = runs.ordered_by
    return told.get(name, name)


def _title(runs: Runs) -> str:
    return f"{runs.metric[:1].upper()}{runs.metric[1:]} against {_name(runs)}"


def _scatter(axes: Any, runs: Runs) -> None:
    """The runs in their order, tinted by tokens per parameter where they have both."""
    x = runs.values[runs.ordered_by]
    if {"N", "D"} <= runs.values.keys():
        ratio = runs.values["D"] / runs.values["N"]
        points = axes.scatter(x, runs.y, c=ratio, norm="log", s=14, cmap="cividis", alpha=0.85, linewidths=0)
        bar = axes.figure.colorbar(points, ax=axes, pad=0.01, aspect=30, format=_amount)
        bar.ax.yaxis.set_minor_formatter("")
        bar.set_label("tokens per parameter", fontsize=8)
        bar.outline.set_visible(False)
    else:
        axes.scatter(x, runs.y, s=14, color=POINT, linewidths=0)
    if runs.ordered_by not in PLAIN:
        axes.set_xscale("log")
    axes.set_xlabel(_name(runs))
    axes.set_ylabel(runs.metric)


def _amount(value: float, _: object) -> str:
    return short_amount(value)


def _along_compute(law: Fit) -> bool:
    return set(law.form.variables) == {"N", "D"} and "C" in law.runs.values


def _drawn_law(law: Fit) -> str:
    """What `_law` draws beside the runs."""
    if _along_compute(law):
        return (
            "The line is the best the law reaches within the sizes that were run; the band holds 95% of "
            "bootstrap draws of that line."
        )
    if len(law.form.variables) == 1:
        return "The line is the law; the band holds 95% of bootstrap draws of it."
    return "A ring is what the law says of that run."


def _law(axes: Any, draws: Draws) -> None:
    law = draws.fit
    _scatter(axes, law.runs)
    order = law.runs.values[law.runs.ordered_by]
    some = draws.theta[:: max(1, len(draws.theta) // 400)]
    if _along_compute(law):
        c = np.geomspace(order.min(), order.max(), 60)
        sizes = np.geomspace(law.runs.values["N"].min(), law.runs.values["N"].max(), 160)
        grid = {"N": np.repeat(sizes, len(c)), "D": np.tile(c, len(sizes)) / (6 * np.repeat(sizes, len(c)))}
        shape = (-1, len(sizes), len(c))
        many = law.log_values(grid, some).reshape(shape).min(axis=1)
        line = law.log_values(grid, law.theta[None]).reshape(shape).min(axis=1)[0]
    elif len(law.form.variables) == 1:
        name = law.form.variables[0]
        known = law.runs.values[name]
        ends = (known.min(), known.max())
        c = np.linspace(*ends, 200) if name in PLAIN else np.geomspace(*ends, 200)
        many, line = law.log_values({name: c}, some), law.log_values({name: c}, law.theta[None])[0]
        if not np.array_equal(known, order):
            axes.clear()
            axes.scatter(known, law.runs.y, s=14, color=POINT, linewidths=0)
            axes.set_xlabel(name)
            axes.set_ylabel(law.runs.metric)
    else:
        axes.scatter(
            order, law.predict(law.runs.values), s=16, facecolors="none", edgecolors=LINE, label="law"
        )
        axes.legend()
        return
    low, high = np.exp(between(many, 0.95))
    axes.fill_between(c, low, high, color=BAND, alpha=0.45, linewidth=0, label="95% of draws")
    axes.plot(c, np.exp(line), color=LINE, linewidth=1.8, label="law")
    axes.legend(loc="upper right")


def _valleys(axes: Any, law: Fit) -> None:
    from matplotlib import colormaps

    found = valleys(law.runs)
    found = found[:: max(1, math.ceil(len(found) / 10))]
    colours = colormaps["viridis"](np.linspace(0.05, 0.9, len(found)))
    for valley, colour in zip(found, colours, strict=True):
        n = law.runs.values["N"][valley.rows]
        axes.scatter(n, law.runs.y[valley.rows], s=14, color=colour, linewidths=0)
        sizes = np.geomspace(n.min() / 1.3, n.max() * 1.3, 120)
        values = {
            name: np.full(120, np.median(law.runs.values[name][valley.rows])) for name in law.form.variables
        }
        values |= {"N": sizes, "D": valley.compute / (6 * sizes)}
        if "U" in values:  # no more different tokens than tokens
            values["U"] = np.minimum(values["U"], values["D"])
        line = law.predict(values)
        axes.plot(sizes, line, color=colour, linewidth=1.3, label=short_amount(valley.compute))
        axes.scatter(
            sizes[line.argmin()], line.min(), marker="v", s=70, color=colour, edgecolors="white", zorder=3
        )
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel(law.runs.metric)
    axes.legend(title="FLOPs", fontsize=7.5, title_fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _residuals(axes: Any, law: Fit) -> None:
    axes.axhline(0, color=QUIET, linewidth=1)
    band = f"± {law.scale:.2%}, robust standard deviation"
    axes.axhspan(-100 * law.scale, 100 * law.scale, color=BAND, alpha=0.25, linewidth=0, label=band)
    axes.scatter(law.runs.values[law.runs.ordered_by], 100 * law.residuals, s=12, color=POINT, linewidths=0)
    if law.runs.ordered_by not in PLAIN:
        axes.set_xscale("log")
    axes.set_xlabel(_name(law.runs))
    axes.set_ylabel("run above law, %")
    axes.legend(loc="best", fontsize=8)


def _profile(axes: Any, profile: Profile) -> None:
    limit = NormalDist().inv_cdf(0.5 + profile.nominal / 2) ** 2
    top = 2.5 * limit
    axes.plot(profile.at, profile.deviance, color=LINE, linewidth=1.8, marker="o", markersize=2.5)
    axes.axhline(limit, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.axvline(profile.value, color=INK, linewidth=1, label=f"fit: {profile.value:.4g}")
    near = profile.at[profile.deviance <= top]
    low, high = near.min(), near.max()
    if low == high:  # without noise a single value is possible
        low, high = low - 0.01 * abs(low), high + 0.01 * abs(high)
    elif low > 0 and high > 20 * low:
        axes.set_xscale("log")
    ends = (low if profile.low is None else profile.low, high if profile.high is None else profile.high)
    axes.axvspan(*ends, color=BAND, alpha=0.3, linewidth=0, label=f"{profile.nominal:.0%}: {profile}")
    axes.set_xlim(low, high)
    axes.set_ylim(0, top)
    axes.set_xlabel(profile.name)
    axes.set_ylabel("deviance")
    axes.legend(loc="upper center", fontsize=8)


def _forecast(
    axes: Any, runs: Runs, made: Forecast, choice: Choice | None, outcomes: Sequence[float] | None
) -> None:
    _scatter(axes, runs)
    by = runs.ordered_by
    x = made.targets[by]
    top = np.flatnonzero(runs.order >= runs.order.max() - 0.3)
    begin = int(top[np.argmin(runs.y[top])])
    last = int(np.argmax(x))
    names = [k for k in made.targets if k in runs.own]
    share = np.linspace(0, 1, 40)
    way = {}
    for name in names:
        ends = runs.values[name][begin], made.targets[name][last]
        way[name] = (
            ends[0] + share * (ends[1] - ends[0])
            if name in PLAIN
            else ends[0] ** (1 - share) * ends[1] ** share
        )
    if made.member == ENSEMBLE or choice is not None:
        line = forecast(runs, way, member=made.member, nominal=made.nominal, choice=choice)
        if line.low is not None and line.high is not None:
            band = f"{100 * made.nominal:g}% interval"
            axes.fill_between(way[by], line.low, line.high, color=BAND, alpha=0.45, linewidth=0, label=band)
        axes.plot(way[by], line.values, color=LINE, linewidth=1.8)
    repeated = float(np.exp(fitted(Member(LAST), runs).last))
    ahead = [float(runs.values[by].max()), float(x.max())]
    axes.plot(ahead, [repeated] * 2, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label="last value")
    if outcomes is not None:
        axes.scatter(x, outcomes, s=22, color=NEW, linewidths=0, zorder=4, label="outcome")
        axes.scatter(x, made.values, s=26, facecolors="none", edgecolors=LINE, zorder=4, label="forecast")
    elif made.low is not None and made.high is not None:
        reach = np.stack([made.values - made.low, made.high - made.values])
        axes.errorbar(
            x, made.values, yerr=reach, fmt="o", color=LINE, markersize=5, capsize=3, label="forecast"
        )
    else:
        axes.scatter(x, made.values, s=26, color=LINE, label="forecast")
    axes.legend(loc="upper right")


def _ranking(axes: Any, choice: Choice) -> None:
    ranked = list(choice.ranked)[::-1]
    for row, item in enumerate(ranked):
        errors = 100 * choice.errors(item.member)
        colour = QUIET if item.member.form == LAST else BAND
        axes.barh(row, 100 * item.error, color=colour, alpha=0.6, height=0.62)
        axes.scatter(errors, np.full(len(errors), row), s=9, color=INK, alpha=0.5, linewidths=0, zorder=3)
    axes.set_yticks(range(len(ranked)), [str(r.member) for r in ranked], fontsize=8)
    axes.set_xlim(0, None)
    axes.set_xlabel("error, %")
