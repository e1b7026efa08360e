"""An atlas made, searched and labelled with a model that is on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import by_contrast, by_effect, by_prompt, peaks, promoted, tables
from pellucid.atlas.build import AtlasSettings, Target
from pellucid.atlas.by_words import Hit
from pellucid.atlas.directions import Directions
from pellucid.atlas.explainer_local import LocalExplainer
from pellucid.atlas.explainers import Marked, Sheet, Written
from pellucid.atlas.outputs import Outputs
from pellucid.atlas.pages import Atlas, snippets
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model
from tests.atlas.label_cases import window

On = Callable[..., Model]
SITES = [Site("resid_post", 1), Site("mlp_out", 2)]
TEXTS = ["the rain and the moon over the town", "dogs bark", "a model reads one token after another"]


@pytest.fixture(params=["dictionary beside the model", "dictionary on the processor"])
def place(request: pytest.FixtureRequest, device: str) -> str:
    """Where dictionaries lie while the model is on the device."""
    return device if "beside" in request.param else "cpu"


def table_of(atlas: Atlas, name: str) -> dict[str, np.ndarray]:
    table = atlas.table(name)
    assert table is not None
    return dict(table.slice(0, table.rows))


def test_an_atlas_is_the_one_that_the_processor_makes(
    tiny: Model, store: TokenStore, dictionary_at: Callable[..., Dictionary], device: str, place: str, on: On,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Of two dictionaries, read together."""
    made: list[list[Path]] = []
    settings = AtlasSettings(examples=5, per_band=3, promoted=4)
    for name, model, lies in (("here", tiny, "cpu"), ("there", on(device, tiny), place)):
        targets = [
            Target(dictionary_at(site, n).to(lies), Reader(model, store, site), tmp_path / name / str(n))
            for n, site in enumerate(SITES)
        ]
        building.build(targets, np.arange(24), settings=settings)
        made.append([Path(t.address) for t in targets])
    for expected, found in zip(*made, strict=True):
        one, other = Atlas.open(expected), Atlas.open(found)
        assert one.record["dictionary"] == other.record["dictionary"]
        for name in ("postings", "features", "rows"):
            theirs, mine = table_of(one, name), table_of(other, name)
            for column in theirs:
                of_values = any(part in column for part in ("example", "band", "histogram"))
                if theirs[column].dtype.kind in "iu" and not of_values:
                    np.testing.assert_array_equal(mine[column], theirs[column], err_msg=column)
        np.testing.assert_allclose(
            table_of(other, "postings")["activation"].astype(np.float32),
            table_of(one, "postings")["activation"].astype(np.float32), rtol=2e-3, atol=1e-3,
        )  # fmt: skip
        effects = [table_of(a, "effects") for a in (one, other)]
        for kind in ("promoted", "suppressed"):
            np.testing.assert_allclose(effects[1][f"{kind}_scores"], effects[0][f"{kind}_scores"], atol=5e-3)
            assert (effects[1][kind] == effects[0][kind]).mean() > 0.98, "but for what ties"
    dictionary = dictionary_at(SITES[0]).to(place)
    atlas = Atlas.open(made[1][0], dictionary)
    page = atlas.page(3)
    shown = [snippets(page, store, m, dictionary, count=3) for m in (tiny, on(device, tiny))]
    for here, there in zip(*shown, strict=True):
        assert there.pieces == here.pieces
        assert there.values == pytest.approx(here.values, abs=1e-3)
    assert Directions.of(dictionary).digest == atlas.record["dictionary"]


def test_promoted_tokens_are_those_of_the_processor(
    tiny: Model, dictionary: Dictionary, device: str, place: str, on: On
) -> None:
    assert dictionary.maximum is not None
    units = dictionary.maximum.index_fill(0, torch.tensor([5]), 0.0)
    expected = promoted.measure(tiny, dictionary, units, count=6)
    moved = dictionary.to(place)
    for mine in (units, units.to(place)):
        found = promoted.measure(on(device, tiny), moved, mine, count=6)
        torch.testing.assert_close(found.promoted_scores, expected.promoted_scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.suppressed_scores, expected.suppressed_scores, rtol=1e-3, atol=1e-4)
        alive = torch.arange(len(units)) != 5
        assert (found.promoted == expected.promoted)[alive].float().mean() > 0.98, "but for what ties"


def test_searches_find_the_same(
    tiny: Model, dictionary_at: Callable[..., Dictionary], device: str, place: str, on: On
) -> None:
    away = on(device, tiny)
    plain = {str(site): dictionary_at(site) for site in SITES}
    moved = {name: d.to(place) for name, d in plain.items()}
    (ids, expected), (my_ids, found) = (
        by_prompt.strongest(m, d, TEXTS[0], count=12) for m, d in ((tiny, plain), (away, moved))
    )
    assert my_ids == ids
    for theirs, mine in zip(expected, found, strict=True):
        assert (mine.dictionary, mine.feature, mine.position) == (
            theirs.dictionary, theirs.feature, theirs.position
        )  # fmt: skip
        assert mine.score == pytest.approx(theirs.score, rel=1e-3)
    name = str(SITES[0])
    hits = [Hit(3, 1.0), Hit(7, 2.0)]
    raised = [by_effect.confirm(m, d[name], hits, [5, 9], drawn=4) for m, d in ((tiny, plain), (away, moved))]
    assert [f.feature for f in raised[1].features] == [f.feature for f in raised[0].features]
    assert [f.rise for f in raised[1].features] == pytest.approx(
        [f.rise for f in raised[0].features], abs=1e-3
    )
    assert raised[1].chance == pytest.approx(raised[0].chance, abs=1e-3)
    contrasts = []
    for model, dictionaries in ((tiny, plain), (away, moved)):
        sides = [[f"{t} {end}" for end in ("now", "again", "there", "once", "for us")] for t in TEXTS[:2]]
        one, two = (peaks.read(model, list(dictionaries.values()), side) for side in sides)
        told = by_contrast.contrast(dictionaries[name], one, two, count=len(dictionaries[name].decoder))
        contrasts.append({f.feature: f.told.auc for f in told.features})
    # Two texts on which a feature is equally strong to rounding may change places.
    assert contrasts[1] == pytest.approx(contrasts[0], abs=0.05)


def test_what_features_say_is_judged_by_the_same_rows(
    tiny: Model, device: str, on: On, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    ids = np.array(
        [tiny.tokenizer(c, add_special_tokens=False).input_ids[0] for c in "abcdefghijklmnopqrstuvwxyz"]
    )
    columns = {
        "promoted": np.array([random.permutation(ids)[:12] for _ in range(60)], np.int32),
        "promoted_scores": np.tile(np.linspace(2, 1, 12).astype(np.float16), (60, 1)),
    }
    effects, counts = tables.write(tmp_path / "effects", [columns]), np.full(len(tiny.tokenizer), 5)
    for feature in range(4):
        expected, found = (
            Outputs(m, effects, counts).of(feature, ["moon"]) for m in (tiny, on(device, tiny))
        )
        assert expected is not None
        assert found is not None
        assert found.text == expected.text
        assert vars(found.score) == pytest.approx(vars(expected.score), abs=1e-4)


def test_a_model_there_writes_labels_and_judges(tiny: Model, device: str, on: On) -> None:
    active = [window(f"the rain in town {n}", {1: 1.0}) for n in range(4)]
    sheet: Any = Sheet(
        tuple(Marked(w, w.marked) for w in active),
        tuple(Marked(w, (3,)) for w in active),
        tuple(window(f"dogs bark at {n}") for n in range(4)),
        ("books",),
    )
    told = [LocalExplainer(m).judge(Written("rain"), sheet) for m in (tiny, on(device, tiny))]
    assert told[1] == told[0]
    assert replace(LocalExplainer(tiny)).identity() == LocalExplainer(on(device, tiny)).identity()
