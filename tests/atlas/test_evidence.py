from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.atlas.evidence import Corpus, Evidence, EvidenceSettings, gather
from tests.atlas.label_cases import corpus


def postings_of(
    chosen: Corpus, token_id: int, *, share: float = 1.0, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A feature that is active on one token id, or on a share of its places, with random activations."""
    random = np.random.default_rng(seed)
    tokens = np.flatnonzero(np.asarray(chosen.tokens).reshape(-1) == token_id)
    tokens = np.sort(tokens[random.random(len(tokens)) < share])
    return tokens, random.random(len(tokens)).astype(np.float32) + 0.01


def drawn(chosen: Corpus, tokens: np.ndarray, values: np.ndarray, **options: int) -> Evidence:
    return gather(
        3, tokens, values, chosen, similar=np.arange(7, 9000, 11), settings=EvidenceSettings(**options)
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0.05, 1.0), token_id=st.integers(1, 49))
def test_writing_and_testing_never_share_a_row_and_silent_texts_are_silent(
    seed: int, share: float, token_id: int
) -> None:
    chosen = corpus(seed=seed)
    tokens, values = postings_of(chosen, token_id, share=share, seed=seed)
    found = drawn(chosen, tokens, values)
    active = dict(zip(tokens.tolist(), values.tolist(), strict=True))

    def rows(*sides: str) -> set[int]:
        return {w.token // chosen.length for side in sides for w in getattr(found, side)}

    assert not rows("writing", "writing_silent") & rows("held_out", "silent")
    for side in ("writing", "held_out"):
        windows = getattr(found, side)
        assert len({w.token // chosen.length for w in windows}) == len(windows), (
            "examples are of different rows"
        )
    for side in ("writing", "writing_silent", "held_out", "silent"):
        for w in getattr(found, side):
            first = w.token - w.peak
            # Texts are as they stand in the store, with the activations that the postings say.
            row, position = divmod(first, chosen.length)
            ids = chosen.tokens[row, position : position + len(w.pieces)]
            assert w.pieces == tuple(f" w{i}" for i in ids)
            assert not (ids[1:] == 0).any() or w.peak == list(ids).index(0, 1), (
                "a text ends with its document"
            )
            assert w.values == pytest.approx([active.get(first + i, 0.0) for i in range(len(ids))])
            assert (max(w.values) > 0) == (w.kind == "active")
    for w, moved in zip(found.held_out, found.moved, strict=True):
        assert len(moved) == min(len(w.marked), w.values.count(0.0))
        assert all(w.values[i] == 0 for i in moved)


def test_examples_are_drawn_over_the_whole_range_and_the_strongest_is_written_from() -> None:
    chosen = corpus(rows=600)
    tokens, values = postings_of(chosen, 5)
    found = drawn(chosen, tokens, values)
    peaks = np.sort(values)
    edges = np.quantile(peaks, [0.2, 0.4, 0.6, 0.8])
    for side in (found.writing, found.held_out):
        assert len(side) == 40
        bands = np.searchsorted(edges, [max(w.values) for w in side])
        # A cell of text may hold two activations, of which the stronger one is its peak.
        assert min(Counter(bands.tolist()).values()) >= 4
        assert [w.values[w.peak] for w in side] == sorted((w.values[w.peak] for w in side), reverse=True)
    assert found.writing[0].values[found.writing[0].peak] == values.max()


def test_most_silent_texts_are_near_and_say_of_what_kind() -> None:
    chosen = corpus(rows=600)
    tokens, values = postings_of(chosen, 5, share=0.5)
    found = drawn(chosen, tokens, values)
    kinds = Counter(w.kind for w in found.silent)
    assert kinds == {"similar": 12, "same token": 12, "same source": 8, "random": 8}
    assert found.random_share == pytest.approx(0.2)
    for w in found.silent:
        if w.kind == "same token":
            assert w.pieces[w.peak] == " w5"
        if w.kind == "similar":
            assert w.token in range(7, 9000, 11)


def test_a_feature_of_every_place_of_a_token_has_no_near_text_with_it() -> None:
    chosen = corpus(rows=600)
    found = drawn(chosen, *postings_of(chosen, 5))
    assert {w.kind for w in found.silent} == {"similar", "same source", "random"}
    assert len(found.silent) == len(found.held_out)


def test_the_same_arguments_give_the_same_evidence_and_another_seed_another() -> None:
    chosen = corpus()
    postings = postings_of(chosen, 5)
    first, second, third = (
        drawn(chosen, *postings),
        drawn(chosen, *postings),
        drawn(chosen, *postings, seed=1),
    )
    assert first == second
    assert first.digest == second.digest
    assert first.digest != third.digest


def test_rows_that_were_not_read_are_never_shown_as_silent() -> None:
    base = corpus(rows=400)
    read = np.arange(0, 400, 4)
    chosen = Corpus.of(base.tokens, base.sources, base.source_names, separator=0, piece=base.piece, read=read)
    tokens, values = postings_of(chosen, 5, share=0.3)
    mine = np.isin(tokens // chosen.length, read)
    found = gather(3, tokens[mine], values[mine], chosen, similar=np.zeros(0, np.int64))
    assert {w.token // chosen.length for w in (*found.silent, *found.writing_silent)} <= set(read.tolist())


def test_too_little_text_is_not_enough() -> None:
    chosen = corpus()
    tokens, values = postings_of(chosen, 5)
    found = drawn(chosen, tokens[:3], values[:3])
    assert not found.enough
    assert drawn(chosen, tokens, values).enough
