"""Where Pellucid keeps what it fetched: `$PELLUCID_HOME`, or the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder for fetched packages and converted models; created on use."""
    explicit = os.environ.get("PELLUCID_HOME")
    base = (
        Path(explicit)
        if explicit
        else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pellucid"
    )
    base.mkdir(parents=True, exist_ok=True)
    return base
