"""The package as a whole: quick to import, small in front, and laid out as its README says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pellucid

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "numba", "pyarrow", "numpy")
QUICK_S = 0.2
HELP = """
import sys
sys.argv = ["pellucid", "--help"]
from pellucid.cli import main
try:
    main()
except SystemExit:
    pass
"""


def fresh(code: str) -> str:
    """Run code in an interpreter of its own; what it printed."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def heavy_after(code: str) -> list[str]:
    """Which heavy libraries some code imports."""
    tell = f"import json, sys; print(); print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    return list(json.loads(fresh(f"{code}\n{tell}").splitlines()[-1]))


def test_import_is_quick() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        fresh("import pellucid")
        times.append(time.perf_counter() - start)
    assert min(times) < QUICK_S, f"expected under {QUICK_S} s with the interpreter, got {min(times):.2f} s"


def test_import_and_help_load_nothing_heavy() -> None:
    assert heavy_after("import pellucid") == []
    assert heavy_after(HELP) == []
    assert "Usage: pellucid" in fresh(HELP)


def test_public_names() -> None:
    assert pellucid.__all__ == sorted(pellucid.__all__)
    assert set(pellucid.__all__) == set(pellucid._HOME)
    assert len(pellucid.__all__) <= 32
    for name in pellucid.__all__:
        found = getattr(pellucid, name)
        home = pellucid._HOME[name]
        assert found.__module__ == f"pellucid.{home.partition(':')[0]}", name
    assert set(pellucid.__all__) <= set(dir(pellucid))


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse((ROOT / "pellucid/__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name, home in pellucid._HOME.items():
        module, _, attribute = home.partition(":")
        assert imported.pop(name) == (f"pellucid.{module}", attribute or name)
    assert not imported


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(pellucid, "load_modle")


def test_the_base_install_is_small() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) < 10
    assert project["version"] == pellucid.__version__


def test_constraints_name_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==")[0].lower() for line in lines if not line.startswith("#")]
    assert pinned[0] == "torch"
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {re.match(r"[\w.-]+", w)[0].lower() for w in wanted} <= set(pinned)  # type: ignore[index]


def test_the_tree_of_the_readme_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"^pellucid/\n((?:  \S.*\n)+)", text, re.MULTILINE)
    assert tree is not None, "the README shows no tree that begins with the line 'pellucid/'"
    told = re.findall(r"^  (\w+)/ +\S", tree[1], re.MULTILINE)
    there = sorted(p.parent.name for p in (ROOT / "pellucid").glob("*/__init__.py"))
    assert sorted(told) == there
