"""`pellucid keys`: who may ask a server, for what, and how often."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

app = App(name="keys", help="Make, list and remove the keys of a server.", help_format="plaintext")


@app.command
def add(
    name: str,
    /,
    *,
    scopes: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (
        "chat",
        "watch",
        "steer",
    ),
    per_minute: int = 60,
) -> None:
    """Make a key and print it; it is shown once, and kept as a digest alone.

    Args:
        name: what it is called.
        scopes: of chat, watch, steer and admin.
        per_minute: requests it may make.
    """
    from pellucid.cli import printing
    from pellucid.serving import keys

    secret = keys.add(name, scopes, per_minute)
    print(secret)
    printing.note(
        f"The key {name!r} may {', '.join(scopes)}. It is shown this once; servers read keys when they start."
    )


@app.command(name="list")
def list_(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the keys: names, scopes and rates.

    Args:
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.serving import keys

    known = keys.load()
    if json:
        return printing.as_json(
            [
                {"name": k.name, "scopes": list(k.scopes), "per_minute": k.per_minute, "made": k.made}
                for k in known
            ]
        )
    heads = ["key", "scopes", "requests a minute", "made"]
    printing.table(heads, [(k.name, ", ".join(k.scopes), k.per_minute, k.made) for k in known])
    return None


@app.command
def remove(name: str, /) -> None:
    """Forget a key.

    Args:
        name: what it is called.
    """
    from pellucid.serving import keys

    keys.remove(name)
