from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.atlas import tables
from pellucid.atlas.outputs import Beside, Outputs
from pellucid.atlas.tables import Table
from pellucid.models.model import Model

FEATURES = 60


def letters(model: Model) -> np.ndarray:
    """Tokens of one letter, which differ by more than capitals."""
    return np.array(
        [model.tokenizer(c, add_special_tokens=False).input_ids[0] for c in "abcdefghijklmnopqrstuvwxyz"]
    )


@pytest.fixture
def effects(tiny: Model, tmp_path: Path) -> Table:
    """Each feature promotes ten letters by lot; feature 0 the ten whose rows point most in one direction."""
    random = np.random.default_rng(0)
    chosen = letters(tiny)
    promoted = np.array([random.permutation(chosen)[:12] for _ in range(FEATURES)], np.int32)
    rows = tiny.unembedding.detach().numpy()[chosen]
    promoted[0] = chosen[np.argsort(-(rows @ rows[0]))[:12]]
    scores = np.tile(np.linspace(2, 1, 12).astype(np.float16), (FEATURES, 1))
    scores[1] = 0
    return tables.write(tmp_path / "effects", [{"promoted": promoted, "promoted_scores": scores}])


def outputs(tiny: Model, effects: Table) -> Outputs:
    return Outputs(tiny, effects, np.full(len(tiny.tokenizer), 5))


def test_scores_stand_beside_chance_and_equal_their_definition(tiny: Model, effects: Table) -> None:
    found = outputs(tiny, effects)
    first = found.of(0, [])
    assert first is not None
    assert first.agreement is None
    rows = tiny.unembedding.detach().double().numpy()
    centred = rows - rows.mean(0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, -3:].T
    own = centred[effects.row(0)["promoted"][:10]]
    own -= own @ directions.T @ directions
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    cosines = own @ own.T
    assert first.score.value == pytest.approx(cosines[~np.eye(10, dtype=bool)].mean(), abs=1e-4)
    assert first.score.floor < first.score.bar


def test_tokens_drawn_by_lot_seldom_hold_together(tiny: Model, effects: Table) -> None:
    found = outputs(tiny, effects)
    by_lot = [found.of(f, []) for f in range(2, FEATURES)]
    assert np.mean([e.score.counts for e in by_lot if e is not None]) <= 0.1


def test_agreement_is_with_the_words_of_a_label(tiny: Model, effects: Table) -> None:
    found = outputs(tiny, effects).of(3, ["moon", "rain"])
    assert found is not None
    assert found.agreement is not None
    assert -1 <= found.agreement.value <= 1
    again = outputs(tiny, effects).of(3, ["moon", "rain"])
    assert again == found, "the same draws each time"


def test_a_feature_that_promotes_nothing_has_no_effect(tiny: Model, effects: Table) -> None:
    assert outputs(tiny, effects).of(1, []) is None


def test_what_is_told_is_the_strongest_first(tiny: Model, effects: Table) -> None:
    found = outputs(tiny, effects).of(4, [])
    assert found is not None
    words = [tiny.decode([int(i)]) for i in effects.row(4)["promoted"][:5]]
    assert found.text == f"says {', '.join(words)}"


def test_a_figure_counts_above_its_bar() -> None:
    assert Beside(0.5, 0.1, 0.4).counts
    assert not Beside(0.4, 0.1, 0.4).counts
