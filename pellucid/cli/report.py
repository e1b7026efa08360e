"""The page that `make demo` leaves behind: measurements in, one self-contained HTML page out.

In goes a dict of plain Python values (model, dictionary, reading, features, found, steering); every part may
be absent or None, and the page leaves out what it was not given. Out comes the text of one file that asks the
network for nothing: `report.html`, beside this module, with the values embedded as JSON and drawn by the
script inside it. This module does not know how anything was measured, and it writes no file.
"""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import Any

from pellucid.core.numbers import finite

_TEMPLATE = "report.html"


def render(data: dict[str, Any]) -> str:
    """Draw the page.

    Numbers that are not finite are shown as absent. The caller's data is left as it was.

    Args:
        data: JSON values under `title`, `made`, `command`, `seconds`, `model`, `dictionary`, `reading`,
            `features`, `found` and `steering`. Shares are of a feature's maximum over the corpus, and
            strengths are multiples of it.

    Returns:
        The whole page. Text of the data cannot leave the JSON it is embedded in, whatever it holds.

    Raises:
        TypeError: when the data holds what JSON cannot say, such as an array.
    """
    values = finite(data)
    slots = {"title": html.escape(str(values.get("title") or "Pellucid")), "data": embedded(values)}
    template = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return re.sub(r"\{\{(title|data)\}\}", lambda match: slots[match[1]], template)


def embedded(values: Any) -> str:
    """Write JSON that can stand inside a script element: without `<`, it opens and closes no element."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
