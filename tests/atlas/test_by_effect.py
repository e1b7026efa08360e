from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import by_effect, tables
from pellucid.atlas.by_effect import EffectIndex
from pellucid.atlas.by_words import Hit
from pellucid.atlas.tables import Table
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models import hooks
from pellucid.models.model import Model


def effects(folder: Path, features: int = 40) -> Table:
    draw = np.random.default_rng(0)
    promoted = np.stack([draw.permutation(30)[:6] for _ in range(features)]).astype(np.int32)
    scores = np.sort(draw.normal(1, 1, (features, 6)), axis=1)[:, ::-1].astype(np.float16)
    return tables.write(
        folder, [{"promoted": promoted, "promoted_scores": scores}], rows_per_file=16, rows_per_group=8
    )


@given(tokens=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_the_sums_are_those_of_brute_force(tokens: list[int], tmp_path: Path) -> None:
    table = effects(tmp_path / "effects")
    whole = table.slice(0, table.rows)
    wanted = (
        np.isin(whole["promoted"], tokens) * whole["promoted_scores"].astype(np.float64).clip(min=0)
    ).sum(1)
    found = EffectIndex.opened(table).search(tokens, table.rows)
    assert {h.feature for h in found} == set(np.flatnonzero(wanted > 0).tolist())
    for hit in found:
        assert hit.score == pytest.approx(wanted[hit.feature], rel=1e-5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_turning_up_is_what_adding_the_direction_does(tiny: Model, dictionary: Dictionary) -> None:
    tokens = [5, 9, 40]
    found = by_effect.confirm(tiny, dictionary, [Hit(3, 1.0), Hit(7, 2.0)], tokens, drawn=4)
    assert {r.feature for r in found.features} == {3, 7}
    assert found.features[0].rise >= found.features[1].rise
    assert found.chance[0] <= found.chance[1]
    by_feature = {r.feature: r for r in found.features}
    rise = 0.0
    for opening in by_effect.OPENINGS:
        ids = torch.tensor([tiny.encode_text(opening)])
        chances = []
        for strength in (0.0, 3.0):
            x = tiny.capture(ids, [dictionary.site])[dictionary.site]
            x = x + strength * dictionary.decoder[3] * (torch.arange(x.shape[1]) > 0)[:, None]

            def swap(_: torch.Tensor, x: torch.Tensor = x) -> torch.Tensor:
                return x

            with hooks.edited(tiny.network, [(dictionary.site, swap)]), torch.inference_mode():
                chances.append(tiny.network(input_ids=ids).logits[0, -1].softmax(-1)[tokens].sum())
        rise += float(((chances[1] + 1e-4) / (chances[0] + 1e-4)).log()) / len(by_effect.OPENINGS)
    assert by_feature[3].rise == pytest.approx(rise, abs=1e-4)
    assert by_feature[3].score == 1.0


def test_words_become_the_tokens_that_begin_them(tiny: Model) -> None:
    found = by_effect.tokens_of(tiny, ["the"])
    texts = {tiny.decode([i]).strip().lower() for i in found}
    assert all("the".startswith(text) and len(text) > 1 for text in texts)
    for bad in ([], ["zzz"]):
        with pytest.raises(InputError):
            by_effect.tokens_of(tiny, bad)


def test_a_dictionary_without_maxima_is_refused(tiny: Model, dictionary: Dictionary) -> None:
    with pytest.raises(InputError, match="maxima"):
        by_effect.confirm(tiny, dataclasses.replace(dictionary, maximum=None), [Hit(3, 1.0)], [5])
