"""The pages are held to the code: blocks run, commands parse, links lead somewhere, names have a page.

Run as a script (`make docs`), this file writes docs/reference/cli.md from the help of the command line; as a
test it refuses a page that is stale. Whether a sentence is true is for its author to see.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cyclopts
import pytest

import pellucid
from pellucid import cli
from pellucid.core.errors import PellucidError
from pellucid.core.sites import KINDS
from pellucid.models.families import FAMILIES
from pellucid.models.references import ALIASES

ROOT = Path(__file__).resolve().parents[2]
CLI_PAGE = ROOT / "docs/reference/cli.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SHELL = ("console", "bash", "sh")
ENDS_A_CALL = ("|", ">", ">>", "&&", ";")
CLI_NOTE = (
    "<!-- Written by `make docs` from the help of the command line. Edit the docstrings, not this page. -->"
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    body: str
    line: int
    """Where its first line is, from 1."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in FENCE.finditer(text)]
    return [b for b in found if b.language in languages]


def commands(page: Path, program: str) -> Iterator[tuple[str, list[str]]]:
    """The calls of a program in the shell blocks of a page: each as it stands, and its arguments."""
    for block in blocks(page, *SHELL):
        for line in block.body.replace("\\\n", " ").splitlines():
            call = line.strip().removeprefix("$ ")
            if call.partition(" ")[0] == program:
                words = shlex.split(call, comments=True)[1:]
                end = next((i for i, word in enumerate(words) if word in ENDS_A_CALL), len(words))
                yield f"{name_of(page)}:{block.line}: {call}", words[:end]


@cache
def app() -> cyclopts.App:
    """The command line as `pellucid` builds it, caught where it would start to work."""
    caught: list[cyclopts.App] = []
    with patch.object(cyclopts.App, "__call__", lambda self, *_args, **_options: caught.append(self)):
        cli.main()
    return caught[0]


def cli_page() -> str:
    """The reference page of the command line."""
    # cyclopts writes the arguments of the running program into some lines of usage.
    with patch("sys.argv", ["pellucid"]):
        text = app().generate_docs().replace("# pellucid\n", "# The command line\n", 1)
    return f"{CLI_NOTE}\n\n{text.strip()}\n"


def subjects(shown: cyclopts.App, path: str = "pellucid") -> Iterator[tuple[str, cyclopts.App]]:
    """Every verb and subcommand, with the words that call it."""
    for name in shown:
        if not name.startswith("-"):
            yield f"{path} {name}", shown[name]
            yield from subjects(shown[name], f"{path} {name}")


def own_errors(root: type[PellucidError] = PellucidError) -> Iterator[type[PellucidError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("pellucid."):
            yield from own_errors(child)


def slugs(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        # Blank lines put the block where it stands in the page, so that a traceback names the right line.
        source = "\n" * (block.line - 1) + block.body
        exec(compile(source, name_of(page), "exec"), namespace)


CALLING = [p for p in PAGES if p != CLI_PAGE and any(commands(p, "pellucid"))]


@pytest.mark.parametrize("page", CALLING, ids=name_of)
def test_pellucid_commands_parse(page: Path) -> None:
    for where, words in commands(page, "pellucid"):
        try:
            app().parse_args(words, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            pytest.fail(f"{where}\n{error}")


@pytest.mark.parametrize("page", [p for p in PAGES if any(commands(p, "make"))], ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for where, words in commands(page, "make"):
        missing = {w for w in words if "=" not in w} - targets
        assert not missing, f"{where}: the Makefile has no target {missing}"


def test_the_page_of_the_command_line_is_fresh() -> None:
    assert CLI_PAGE.read_text(encoding="utf-8") == cli_page(), "the page is stale: run `make docs`"


def test_every_verb_and_option_is_on_its_page() -> None:
    text = CLI_PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^#+ (pellucid .+)\n((?:[^#\n].*\n|\n)*)", text, re.MULTILINE))
    for path, shown in subjects(app()):
        section = sections.get(path)
        assert section is not None, f"{path} has no section"
        if shown.default_command is not None:
            options = {n for a in shown.assemble_argument_collection() for n in a.names if n.startswith("--")}
            assert {o for o in options if f"`{o}" not in section} == set(), path


def test_every_verb_has_its_file() -> None:
    for verb in cli.VERBS:
        assert importlib.import_module(f"pellucid.cli.{verb}").app.name[0] == verb


def test_every_error_has_a_line() -> None:
    for module in pkgutil.walk_packages(pellucid.__path__, "pellucid."):
        importlib.import_module(module.name)
    text = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    assert [e.__name__ for e in own_errors() if f"| `{e.__name__}` |" not in text] == []


def test_every_site_family_and_alias_has_a_line() -> None:
    text = (ROOT / "docs/reference/sites.md").read_text(encoding="utf-8")
    assert [name for name in (*KINDS, *FAMILIES) if f"`{name}" not in text] == []
    text = (ROOT / "docs/how-to/use-your-own-model.md").read_text(encoding="utf-8")
    assert [name for name in ALIASES if f"`{name}`" not in text] == []


def test_every_public_name_is_in_the_glossary_or_a_page() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in PAGES)
    assert [name for name in pellucid.__all__ if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{name_of(page)} points to {target!r}, which does not exist"
        if heading:
            assert heading in slugs(other), f"{name_of(page)} points to {target!r}: no such heading"


if __name__ == "__main__":
    CLI_PAGE.write_text(cli_page(), encoding="utf-8")
    print(f"wrote {name_of(CLI_PAGE)}")
