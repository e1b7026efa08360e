"""`pellucid scale`: a law from training runs, forecasts with measured intervals, alarms, plans and prices."""

from __future__ import annotations

from cyclopts import App

app = App(
    name="scale",
    help="From training runs to a law, a forecast, a plan and a price.",
    help_format="plaintext",
)

# The verbs that plan are in a file of their own, imported when one of them is called: name, and its help.
_PLANNING: dict[str, str] = {}

for _verb, _help in _PLANNING.items():
    app.command(f"pellucid.cli.scale_plan:{_verb}", name=_verb, help=_help)
