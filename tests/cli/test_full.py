"""`inspect --full` and `--plot` on a tiny model: what is printed, drawn and refused."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.baselines import random_dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from pellucid.testing import WORDS
from tests.cli.shell import run

SITE = Site("resid_post", 2)


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


def quality(k: int) -> dict[str, Any]:
    """A card's figures: what the plot is drawn from."""
    methods = {
        name: {
            "unexplained": figure(worse / k),
            "ce_recovered": {"value": 1 - worse / 100, "low": 1 - worse / 90, "high": 1 - worse / 110},
            "kl": figure(worse / 10),
            "l0": figure(k),
            "dead": None if name == "pca" else 0.01,
        }
        for name, worse in (("dictionary", 1.0), ("random", 3.0), ("pca", 2.0))
    }
    return {"tokens": 1000, "dead_tokens": 2000, "ce_plain": 2.0, "ce_zero": 8.0, "methods": methods}


@pytest.fixture
def dictionaries(
    tiny: Model, tmp_path: Path, home: Path, keep_tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Two random dictionaries that differ in their seed, with labelled sets at hand."""
    monkeypatch.setenv("COLUMNS", "200")
    tiny.network.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    from pellucid.models.model import load

    digest = load(str(tmp_path / "model")).digest
    x = tiny.capture(torch.randint(3, 300, (8, 32)), [SITE])[SITE][:, 1:].flatten(0, 1)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) + f" {i} {rng.choice(['rain', 'moon'])}" for i in range(300)]
    halves = {f"{n}_last": texts[n * 100 : n * 100 + 100] for n in range(2)}
    keep_tables(home, {name: [(t, t[-4:]) for t in half] for name, half in halves.items()})
    for seed in range(2):
        made = random_dictionary(x, features=64, k=4, ports=Ports.of(SITE), model_digest=digest, seed=seed)
        dictionary = replace(made, frequency=None)
        card = {
            "model_reference": str(tmp_path / "model"),
            "tokens": 5000,
            "settings": {"k": 4, "seed": seed},
            "corpus": {"digest": "sha256:0", "sources": []},
            "quality": quality(4 * (1 + seed)),
        }
        files.save(dictionary, tmp_path / f"seed{seed}", card=card, fixture=x[:8])
    return [tmp_path / f"seed{seed}" for seed in range(2)]


def test_one_dictionary_is_printed_beside_its_baselines(
    dictionaries: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", dictionaries[0], "--full") == 0
    printed = capsys.readouterr()
    for told in (
        "AUC on 2 labelled sets",
        "random directions",
        "raw neurons",
        "dense probe",
        "gain",
        "dense features",
    ):
        assert told in printed.out
    assert "absorption is not measured" in printed.err
    assert run("inspect", dictionaries[0], "--full", "--json") == 0
    found = json.loads(capsys.readouterr().out)["full"]
    assert found["sets"] == 2
    assert found["seconds"]["dictionary"] >= 0
    assert found["probing"]["dense"]["all"]["value"] == 1.0


def test_several_are_compared_on_one_ground_and_two_seeds_are_told(
    dictionaries: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", *dictionaries, "--full") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Sparse probing at resid_post.2" in out
    assert "random directions of the first" in out
    assert "Stability over two seeds: 0% [0%, 0%] of the features of seed0 have a partner in seed1" in out
    assert run("inspect", *dictionaries, "--full", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed1"]["full"]["seconds"]["ground"] == 0.0
    assert found["seed0"]["full"]["probing"]["dense"] == found["seed1"]["full"]["probing"]["dense"]


def test_the_plot_holds_every_point_and_is_the_same_every_time(
    dictionaries: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.svg", "two.svg"):
        assert run("inspect", *dictionaries, "--plot", tmp_path / name) == 0
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    ElementTree.fromstring(text)
    for told in ("seed0", "seed1", "random directions", "PCA of equal L0", "loss added"):
        assert f"<!-- {told}" in text
    assert run("inspect", dictionaries[0], "--plot", tmp_path / "one.svg") == 1
    assert "exists already" in " ".join(capsys.readouterr().err.split())
    assert run("inspect", dictionaries[0], "--plot", tmp_path / "one.png") == 1
    assert "ends in .svg" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("missing", "words"), [("sklearn", "--full"), ("matplotlib", "--plot")])
def test_a_missing_library_is_told_with_its_install_line(
    dictionaries: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    words: str,
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == missing:
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert run("inspect", dictionaries[0], words, *([tmp_path / "a.svg"] if words == "--plot" else [])) == 1
    assert "pip install 'pellucid[eval]'" in " ".join(capsys.readouterr().err.split())
