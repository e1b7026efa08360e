from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.spelling import Spelling
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import ground as room
from pellucid.dictionaries import probing
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.evaluation import evaluate
from pellucid.dictionaries.ground import EvaluationSettings, Ground
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from pellucid.testing import WORDS

SITE = Site("resid_post", 2)
SETTINGS = EvaluationSettings(texts=60, tokens=8, words=20)


@pytest.fixture
def ground(
    tiny: Model, home: Path, keep_tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Ground:
    """A ground whose labels are about the last word of each text, and two sets of which share texts."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) + f" {i} {rng.choice(['rain', 'moon'])}" for i in range(300)]
    ends = [(t, t.rpartition(" ")[2]) for t in texts]
    keep_tables(
        home,
        {"1_last": ends, "2_again": ends, "3_noise": [(f"{t} dog", str(rng.integers(2))) for t in texts]},
    )
    monkeypatch.setattr(room.spelling, "read", lambda model, *_, **__: words(model))
    return Ground.prepare(tiny, SITE, SETTINGS)


def words(model: Model) -> Spelling:
    """Tokens as if they were words, their letter being the largest of four coordinates."""
    x = model.capture(torch.arange(3, 300)[:, None], [SITE])[SITE][:, 0].numpy()
    letters = x[:, :4].argmax(1)
    training = np.arange(len(x)) % 3 > 0
    return Spelling(tuple(f" {i}" for i in range(len(x))), x, letters, training)


def axes(model: Model) -> Dictionary:
    """Two opposite features along each axis."""
    eye = torch.eye(model.width)
    both = torch.cat([eye, -eye])
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest=model.digest,
        activation="relu",
        encoder=both,
        encoder_bias=torch.zeros(2 * model.width),
        decoder=both,
        decoder_bias=torch.zeros(model.width),
    )


def test_figures_stand_beside_their_baselines(ground: Ground) -> None:
    found = evaluate(ground, axes(ground.model), "sha256:axes")
    assert (found.sets, found.groups) == (3, 2)
    assert set(found.probing) == {"dictionary", "random", "neurons", "dense"}
    assert found.by_set["1_last"]["dense"]["all"] == 1.0, "what the last token is, the activation tells"
    assert found.by_set["1_last"]["dictionary"] == found.by_set["2_again"]["dictionary"]
    assert 0.2 < found.by_set["3_noise"]["dense"]["all"] < 0.8
    assert found.probing["dictionary"]["all"].value == pytest.approx(
        np.mean([s["dictionary"]["all"] for s in found.by_set.values()])
    )
    assert found.gains["1"].value == pytest.approx(
        found.probing["dictionary"]["1"].value - found.probing["neurons"]["1"].value
    )
    assert found.unexplained["dictionary"].value == pytest.approx(0, abs=1e-9)
    assert found.unexplained["random"].value > 0.01
    assert found.l0["dictionary"].value == pytest.approx(ground.model.width)
    assert found.l0["random"].value <= ground.model.width
    assert 0 < found.dense["dictionary"].value <= 1
    own = found.absorption["dictionary"]
    assert own is not None
    assert own["words"] > 0
    for by in (*found.probing.values(), {"g": found.gains["all"]}, found.dense, found.l0):
        for figure in by.values():
            assert figure.low <= figure.value + 1e-9
            assert figure.value <= figure.high + 1e-9


def test_a_dictionary_may_lie_on_an_accelerator(ground: Ground, device: str) -> None:
    here, there = (
        evaluate(ground, axes(ground.model).to(place), f"sha256:{place}") for place in ("cpu", device)
    )
    assert there.by_set == here.by_set
    assert there.unexplained == here.unexplained


def test_figures_on_the_sample_equal_a_calculation_by_hand(ground: Ground) -> None:
    dictionary = replace(axes(ground.model), encoder_bias=torch.full((2 * ground.model.width,), -0.5))
    found = evaluate(ground, dictionary, "sha256:shifted")
    x = torch.from_numpy(ground.usable)
    dense = dictionary.encode(x).dense()
    rebuilt = dense @ dictionary.decoder
    expected = (rebuilt - x).square().sum() / (x - x.mean(0)).square().sum()
    assert found.unexplained["dictionary"].value == pytest.approx(float(expected), rel=1e-5)
    assert found.l0["dictionary"].value == pytest.approx(float((dense > 0).sum(1).float().mean()), rel=1e-6)
    share = (dense > 0).float().mean(0)
    assert found.dense["dictionary"].value == pytest.approx(float((share > 0.1).float().mean()))
    assert len(x) == len({t for s in ground.sets for t in s.texts}) == found.tokens


def test_what_was_measured_is_kept_and_a_killed_run_goes_on(
    ground: Ground, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary = axes(ground.model)
    probed = []
    real = probing.probe

    def counted(*given: np.ndarray) -> probing.Aucs:
        if len(probed) == 2:
            raise KeyboardInterrupt
        probed.append(1)
        return real(*given)

    monkeypatch.setattr(probing, "probe", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(ground, dictionary, "sha256:axes")
    monkeypatch.setattr(probing, "probe", lambda *given: probed.append(1) or real(*given))
    whole = evaluate(ground, dictionary, "sha256:axes")
    assert len(probed) == 6, "three sets of the dictionary, of which two were kept, and three of the baseline"
    again = evaluate(Ground.prepare(ground.model, SITE, SETTINGS), dictionary, "sha256:axes")
    assert len(probed) == 6, "nothing is computed twice"
    assert replace(again, seconds={}) == replace(whole, seconds={})
    evaluate(ground, dictionary, "sha256:other")
    assert len(probed) == 9, "another dictionary of the same size pays for itself alone"


def test_a_dictionary_of_another_site_is_refused(ground: Ground) -> None:
    with pytest.raises(InputError, match=r"of resid_post\.1, and what was read for it is of resid_post\.2"):
        evaluate(ground, replace(axes(ground.model), ports=Ports.of(Site("resid_post", 1))), "sha256:axes")
