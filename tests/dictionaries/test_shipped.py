"""What ships with the package is whole, proves itself, and says of itself what it must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.labels import labels_of
from pellucid.atlas.pages import Atlas, snippets
from pellucid.core.errors import UnknownNameError
from pellucid.dictionaries import files, shipped
from pellucid.models.model import Model


@pytest.fixture(scope="module", params=shipped.names())
def folder(request: pytest.FixtureRequest) -> Path:
    """Each shipped dictionary."""
    return shipped.resolve(request.param)


def test_it_loads_and_meets_the_bars_of_its_card(folder: Path) -> None:
    dictionary, card = files.load(folder)
    found = card["quality"]["methods"]
    assert dictionary.num_features >= 16_384
    assert found["dictionary"]["dead"] <= 0.01
    assert found["dictionary"]["ce_recovered"]["value"] >= 0.95
    assert found["dictionary"]["l0"]["value"] == pytest.approx(card["settings"]["k"], rel=0.15)
    for baseline in ("random", "pca"):
        assert found["dictionary"]["unexplained"]["value"] < found[baseline]["unexplained"]["value"]
        assert found["dictionary"]["kl"]["value"] < found[baseline]["kl"]["value"]


def test_it_is_small_enough_to_be_committed(folder: Path) -> None:
    def size(of: Path) -> int:
        return sum(p.stat().st_size for p in of.rglob("*") if p.is_file())

    assert size(folder) < 25_000_000
    assert size(folder / "atlas") < 5_500_000


def test_its_atlas_is_its_own_and_points_into_its_text(folder: Path) -> None:
    dictionary, _ = files.load(folder)
    atlas, store = Atlas.open(folder / "atlas", dictionary=dictionary), TokenStore.open(folder / "text")
    assert atlas.record["store"] == store.digest
    page = atlas.page(int(np.argmax(atlas.frequency)))
    assert page.examples
    assert page.promoted
    assert page.suppressed


def test_names_may_be_shortened_and_wrong_ones_are_refused() -> None:
    assert shipped.resolve("smollm2") == shipped.resolve(shipped.names()[0])
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2"):
        shipped.resolve("smolm2-resid")


@pytest.mark.model
def test_its_codes_of_real_text_are_sparse_and_rebuild_it(folder: Path, smollm2: Model) -> None:
    dictionary, card = files.load(folder, model_digest=smollm2.digest)
    text = "The orchestra played by the sea while the tide came in, and we ate."
    tokens = torch.tensor([smollm2.encode_text(text)])
    x = smollm2.capture(tokens, [dictionary.site])[dictionary.site][0, 1:]
    codes = dictionary.encode(x)
    assert codes.mean_l0 < 3 * card["settings"]["k"]
    error = (dictionary.decode(codes) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert float(error) < 0.6


@pytest.mark.model
def test_an_example_is_strong_where_the_atlas_says(folder: Path, smollm2: Model) -> None:
    dictionary, _ = files.load(folder)
    atlas, store = Atlas.open(folder / "atlas"), TokenStore.open(folder / "text")
    feature = int(np.argsort(atlas.features.column("maximum"))[-50])
    page = atlas.page(feature)
    shown = snippets(page, store, smollm2, dictionary, count=1)
    # The atlas was measured where rows are read by the batch, which bf16 rounds in another order.
    assert max(shown[0].values) == pytest.approx(page.examples[0].value, rel=0.02)


def test_it_has_labels_that_say_how_far_they_can_be_trusted(folder: Path) -> None:
    atlas = Atlas.open(folder / "atlas")
    found = labels_of(atlas, range(atlas.num_features))
    tested = [label for label in found if not np.isnan(label.score)]
    assert len(tested) > 0.8 * len(found)
    reliable = [label for label in tested if label.reliable]
    assert 0.2 < len(reliable) / len(tested) < 0.6
    assert all(label.score > label.floor for label in reliable)
    assert {label.shown for label in found if not label.reliable} == {"no reliable label"}
    assert np.mean([label.floor for label in tested]) == pytest.approx(0.5, abs=0.03)
