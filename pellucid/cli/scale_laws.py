"""`pellucid scale laws`: published laws, their sources, and whether this engine finds their figures again."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from pellucid.cli.scale import Flag

app = App(name="laws", help_format="plaintext")

_HANDS = {"first": "first hand", "second": "second hand", "memory": "from memory"}


@app.default
def laws(
    name: str | None = None,
    /,
    *,
    data: Path | None = None,
    json: Flag = False,
) -> None:
    """List published laws, or show one with its parameters and claims.

    Whether a law is reproduced is computed on the spot: figures its authors print are computed from its
    parameters and compared to the digits they print. With the runs at hand, the law is fitted again.

    Args:
        name: a law of the list.
        data: a folder with public training runs (chinchilla_epoch_svg.csv of Epoch AI), to fit laws again.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.scaling import claims, registry

    chosen = list(registry.LAWS.values()) if name is None else [registry.published(name)]
    checked = {law.name: claims.check(law.name, data) for law in chosen}
    if json:
        return printing.as_json(
            [
                {
                    "name": law.name,
                    "form": law.form,
                    "parameters": dict(law.parameters),
                    "counts": law.counts,
                    "source": law.source,
                    "read": law.read,
                    "hand": law.hand,
                    "note": law.note,
                    "can_plan": law.can_plan,
                    "status": claims.status(law, checked[law.name]),
                    "claims": [
                        {
                            "what": o.claim.what,
                            "published": o.claim.published,
                            "computed": o.computed,
                            "agrees": o.agrees,
                        }
                        for o in checked[law.name]
                    ],
                }
                for law in chosen
            ]
        )
    if name is None:
        rows = []
        for law in chosen:
            found = checked[law.name]
            agreeing = f"{sum(o.agrees for o in found)} of {len(found)}" if found else "–"
            rows.append(
                [
                    law.name,
                    "yes" if law.can_plan else "no",
                    claims.status(law, found),
                    agreeing,
                    _HANDS[law.hand],
                    law.source,
                ]
            )
        return printing.table(["law", "plans", "status", "figures", "parameters", "source"], rows)
    law = chosen[0]
    facts = {
        "form": law.form,
        **{key: f"{value:.8g}" for key, value in law.parameters.items()},
        "counts": law.counts,
        "source": law.source,
        "read from": f"{law.read} ({_HANDS[law.hand]})",
        "note": law.note or "–",
        "status": claims.status(law, checked[law.name]),
    }
    printing.table(["", ""], list(facts.items()), title=law.name)
    if checked[law.name]:
        printing.table(
            ["figure", "published", "computed", "agrees"],
            [
                [o.claim.what, f"{o.claim.published:.8g}", f"{o.computed:.8g}", "yes" if o.agrees else "no"]
                for o in checked[law.name]
            ],
        )
    return None
