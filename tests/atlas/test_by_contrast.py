from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pellucid.atlas import by_contrast, by_direction, peaks, ranks
from pellucid.atlas.families import families
from pellucid.atlas.peaks import Read
from pellucid.core.errors import InputError
from pellucid.dictionaries import probing
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

DOGS = tuple(
    f"the {a} dog and the {b} dogs bark" for a in ("lazy", "brown") for b in ("other", "quick", "old")
)
RAIN = tuple(
    f"the {a} rain came in the {b} town" for a in ("lazy", "brown") for b in ("other", "quick", "old")
)


def noise(dictionary: Dictionary, count: int, planted: float, seed: int) -> list[Read]:
    """Texts of seven tokens of noise, the first coordinate shifted on one token."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        x = torch.randn(6, dictionary.width, generator=generator)
        x[2, 0] += planted
        found.append(Read(list(range(7)), torch.arange(1, 7), {dictionary.ports.reads: x}))
    return found


@pytest.fixture
def plain(dictionary: Dictionary) -> Dictionary:
    """Features that read a coordinate each, and more features than coordinates."""
    width = dictionary.encoder.shape[1]
    rows = torch.cat([torch.eye(width), dictionary.decoder])
    size = len(rows)
    return dataclasses.replace(
        dictionary,
        encoder=rows, decoder=rows, encoder_bias=torch.full((size,), -0.5), maximum=torch.full((size,), 4.0),
        activation="relu", k=None,
    )  # fmt: skip


def test_peaks_are_the_largest_codes_of_each_text(tiny: Model, dictionary: Dictionary) -> None:
    reads = peaks.read(tiny, [dictionary], [*DOGS, "a"])
    found = peaks.of_reads(dictionary, reads)
    for row, text in enumerate([*DOGS, "a"]):
        ids = tiny.encode_text(text)
        x = tiny.columns(torch.tensor([ids]), dictionary.ports.reads)[0].float()
        kept = reads[row].kept
        assert 0 not in kept or len(ids) == 1
        np.testing.assert_allclose(reads[row].columns[dictionary.ports.reads], x[kept], rtol=1e-4, atol=1e-5)
        dense = dictionary.encode(x[kept]).dense().amax(0).numpy()
        mine = np.zeros(dictionary.num_features, np.float32)
        mine[found.features] = found.values[row]
        np.testing.assert_allclose(mine, dense, rtol=1e-4, atol=1e-4)


def test_a_planted_feature_is_found_with_the_figures_of_brute_force(plain: Dictionary) -> None:
    concept = noise(plain, 12, 5.0, 0)
    neutral = noise(plain, 12, 0.0, 1)
    found = by_contrast.contrast(plain, concept, neutral, count=5, dense_probe=True)
    best = found.features[0]
    assert best.feature == 0
    assert found.tested == plain.num_features
    reads = [*concept, *neutral]
    labels = np.arange(24) < 12
    values = peaks.of_reads(plain, reads)
    everything = np.zeros((24, plain.num_features), np.float32)
    everything[:, values.features] = values.values
    told = ranks.compare(everything, labels)
    q = ranks.adjusted(told.p, plain.num_features)
    assert best.q == pytest.approx(q[0])
    assert found.significant == int((q <= 0.05).sum())
    assert best.told.auc == pytest.approx(probing.auc(everything[:, 0], labels))
    held = np.arange(24) % 2 == 1
    assert best.held_out is not None
    assert best.held_out.auc == pytest.approx(probing.auc(everything[held, 0], labels[held]))
    assert best.with_it == pytest.approx(everything[labels, 0].mean() / 4, rel=1e-5)
    assert set(found.baselines) == {"mean difference", "dense probe", "raw neuron", "random direction"}
    # The coordinate that the feature reads is itself a raw neuron, so the feature cannot be ahead of it.
    assert found.verdict == "no better"
    assert found.ahead is not None
    assert found.ahead[1] <= found.ahead[0] <= found.ahead[2]


def test_noise_is_none_reliable(plain: Dictionary) -> None:
    verdicts = [
        by_contrast.contrast(
            plain,
            noise(plain, 8, 0.0, 2 * s),
            noise(plain, 8, 0.0, 2 * s + 1),
        ).verdict
        for s in range(20)
    ]
    assert verdicts.count("none") >= 18


def test_few_texts_are_not_held_out_and_none_are_refused(plain: Dictionary) -> None:
    some = noise(plain, 3, 9.0, 0)
    found = by_contrast.contrast(plain, some, noise(plain, 2, 0.0, 1))
    assert found.features[0].held_out is None
    assert found.baselines == {}
    assert found.verdict in ("none", "untested")
    with pytest.raises(InputError, match="texts with the concept"):
        by_contrast.contrast(plain, some, [])


def test_a_dictionary_that_is_silent_on_all_texts_has_no_feature_for_them(plain: Dictionary) -> None:
    silent = dataclasses.replace(plain, encoder_bias=torch.full((plain.num_features,), -1e6))
    found = by_contrast.contrast(silent, noise(plain, 5, 5.0, 0), noise(plain, 5, 0.0, 1))
    assert found.features == []
    assert found.verdict == "none"
    assert (found.ahead, found.significant) == (None, 0)
    assert len(found.baselines) == 3


def test_several_dictionaries_share_one_reading(
    tiny: Model, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = list(families().values())[:1]
    short = [dataclasses.replace(known[0], concept=DOGS, neutral=RAIN)]
    calls = []
    capture = type(tiny).capture

    def counted(self: Model, *arguments: object, **options: object) -> object:
        calls.append(1)
        return capture(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tiny), "capture", counted)
    one = by_contrast.survey(tiny, {"a": dictionary}, short)
    alone = len(calls)
    both = by_contrast.survey(tiny, {"a": dictionary, "b": dictionary}, short)
    assert len(calls) == 2 * alone
    assert both["a"] == both["b"] == one["a"]


def test_a_dictionary_of_another_model_is_refused(tiny: Model, dictionary: Dictionary) -> None:
    other = dataclasses.replace(dictionary, model_digest="sha256:other")
    with pytest.raises(InputError, match="another model"):
        peaks.read(tiny, [other], ["the rain"])


def test_the_mean_difference_is_between_the_means_of_texts(tiny: Model, dictionary: Dictionary) -> None:
    sides = [peaks.read(tiny, [dictionary], texts) for texts in (DOGS, RAIN)]
    means = [np.stack([r.columns[dictionary.ports.reads].mean(0).numpy() for r in s]).mean(0) for s in sides]
    found = by_direction.mean_difference(dictionary.ports, *sides)
    np.testing.assert_allclose(found, means[0] - means[1], rtol=1e-5)


@pytest.mark.parametrize("name", sorted(families()))
def test_families_are_matched_pairs(name: str) -> None:
    family = families()[name]
    assert len(family.concept) == len(family.neutral) == 32
    assert len({*family.concept, *family.neutral}) == 64
    words = [np.mean([len(text.split()) for text in side]) for side in (family.concept, family.neutral)]
    assert 0.9 < words[0] / words[1] < 1.1
