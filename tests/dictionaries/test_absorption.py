from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.activations.spelling import Spelling
from pellucid.core.sites import Site
from pellucid.dictionaries import absorption
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports

WIDTH = 24
LETTERS = 4
EACH = 60


def made(decoder: torch.Tensor, threshold: float) -> Dictionary:
    n = len(decoder)
    return Dictionary(
        ports=Ports.of(Site("resid_post", 1)),
        model_digest="sha256:0",
        activation="jumprelu",
        encoder=decoder,
        encoder_bias=torch.zeros(n),
        decoder=decoder,
        decoder_bias=torch.zeros(WIDTH),
        threshold=torch.full((n,), threshold),
    )


def words(*, own_direction_for: float) -> Spelling:
    """Words along their letter's axis; a share of the first letter's also along an axis of their own."""
    rng = np.random.default_rng(0)
    letters = np.repeat(np.arange(LETTERS), EACH)
    x = 0.05 * rng.standard_normal((len(letters), WIDTH))
    x[np.arange(len(letters)), letters] += 4
    some = np.arange(EACH) % 10 < 10 * own_direction_for
    x[np.flatnonzero(some), 10] += 8
    training = np.arange(len(letters)) % 3 > 0
    return Spelling(tuple(f" w{i}" for i in range(len(letters))), x.astype(np.float32), letters, training)


def measured(dictionary: Dictionary, spelling: Spelling) -> absorption.Absorption:
    codes = dictionary.encode(torch.from_numpy(spelling.activations))
    found = absorption.measure(dictionary, codes, spelling, absorption.letter_probes(spelling))
    assert found is not None
    return found


def test_a_dictionary_with_a_feature_for_each_letter_absorbs_nothing() -> None:
    found = measured(made(torch.eye(WIDTH)[:LETTERS], 1.0), words(own_direction_for=0.5))
    assert found.letters == "abcd"
    assert found.words == LETTERS * EACH // 3
    assert found.dense_f1 == found.one_f1.value == found.split_f1.value == 1.0
    assert found.features.value == 1
    assert found.fraction.value == found.full.value == 0.0


def test_absorption_is_the_share_that_was_built_in() -> None:
    # A feature for words of the first letter with an axis of their own writes the letter as well, and where
    # it speaks, the letter's own feature is silent.
    spelling = words(own_direction_for=0.3)
    axes = torch.eye(WIDTH)
    narrow = torch.nn.functional.normalize(axes[0] * 4 + axes[10] * 8, dim=0)
    general = torch.nn.functional.normalize(axes[0] - axes[10], dim=0)
    decoder = torch.stack([axes[0], axes[1], axes[2], axes[3], narrow])
    dictionary = replace(
        made(decoder, 1.0),
        encoder=torch.stack([general, axes[1], axes[2], axes[3], narrow]),
        threshold=torch.tensor([1.0, 1.0, 1.0, 1.0, 6.0]),
    )
    found = measured(dictionary, spelling)
    test = ~spelling.training[:EACH]
    absorbed = (spelling.activations[:EACH, 10] > 4)[test].mean()
    # The sparse probe may make the narrow feature the letter's second; then nothing is absorbed. One feature
    # more must add 0.03 to the F1, which it does here, so the letter has two.
    assert found.features.value == pytest.approx(1.25)
    monosemantic = absorption.letter_features(
        absorption.scaled(dictionary.encode(torch.from_numpy(spelling.activations))),
        spelling.letters == 0,
        spelling.training,
    )
    assert sorted(monosemantic[0]) == [0, 4]
    assert monosemantic[1] < 1.0
    alone = [
        absorption.absorbed(*codes, dictionary.decoder, axes[0].numpy(), [0], float(x[0]))
        for codes, x in zip(
            dictionary.encode(torch.from_numpy(spelling.activations[:EACH][test])),
            spelling.activations[:EACH][test],
            strict=True,
        )
    ]
    assert np.mean([full for _, full in alone]) == pytest.approx(absorbed)
    assert np.mean([fraction for fraction, _ in alone]) == pytest.approx(absorbed)


@pytest.mark.parametrize(
    ("values", "main", "along", "expected"),
    [
        ([2.0, 0.0, 0.0], [0], 4.0, (0.0, False)),  # no other feature writes anything
        ([2.0, 4.0, 0.0], [0], 4.0, (0.5, False)),  # others fill what is left: 2 of 2 + 2
        ([3.0, 4.0, 0.0], [0], 4.0, (0.25, False)),  # others are cut to the 1 that is left
        ([4.0, 4.0, 0.0], [0], 4.0, (0.0, False)),  # the letter's feature does it all
        ([0.0, 4.0, 0.0], [0], 4.0, (1.0, True)),  # silent, and one other does 2.4 of 4
        ([0.0, 2.0, 0.0], [0], 4.0, (0.0, False)),  # 1.2 of 4 is too little
        ([0.0, 2.0, 2.0], [0], 4.0, (1.0, False)),  # 1.2 + 1.2 is enough, and no single one
        ([0.0, 4.0, 0.0], [0], -1.0, (0.0, False)),  # the activation points away
        ([0.0, 0.0, 0.0], [0], 4.0, (0.0, False)),  # nothing is active
    ],
)
def test_the_part_taken_over_by_hand(
    values: list[float], main: list[int], along: float, expected: tuple[float, bool]
) -> None:
    decoder = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.6, 0.0, 0.8]])
    active = torch.tensor([i for i, v in enumerate(values) if v > 0], dtype=torch.int32)
    shares = torch.tensor([v for v in values if v > 0])
    found = absorption.absorbed(active, shares, decoder, np.array([1.0, 0, 0], np.float32), main, along)
    assert found == (pytest.approx(expected[0]), expected[1])


@given(st.lists(st.floats(0, 20), min_size=6, max_size=6), st.floats(0.1, 20))
def test_the_part_taken_over_is_a_part(values: list[float], along: float) -> None:
    decoder = torch.nn.functional.normalize(
        torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1
    )
    active = torch.tensor([i for i, v in enumerate(values) if v > 0], dtype=torch.int32)
    given_values = torch.tensor([v for v in values if v > 0])
    direction = decoder[0].numpy()
    fraction, full = absorption.absorbed(active, given_values, decoder, direction, [0, 1], along)
    assert 0 <= fraction <= 1
    if full:
        assert values[0] == values[1] == 0


def test_where_no_probe_finds_a_letter_there_is_nothing_to_measure() -> None:
    rng = np.random.default_rng(4)
    spelling = replace(
        words(own_direction_for=0), activations=rng.standard_normal((240, WIDTH)).astype(np.float32)
    )
    probes = absorption.letter_probes(spelling)
    assert (probes.f1 < 0.6).all()
    dictionary = made(torch.eye(WIDTH), 1.0)
    codes = dictionary.encode(torch.from_numpy(spelling.activations))
    assert absorption.measure(dictionary, codes, spelling, probes) is None
