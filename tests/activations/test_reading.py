from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models.model import Model
from pellucid.testing import WORDS, tiny_model

SITE = Site("resid_post", 2)
LENGTH = 16


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def store_for(model: Model, folder: Path) -> TokenStore:
    dice = np.random.default_rng(0)
    for n in range(120):
        path = folder / "text" / f"{n:03d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{n} " + " ".join(dice.choice(WORDS, dice.integers(2, 30))))
    return TokenStore.build(
        model, [TextSource.parse(str(folder / "text"))], length=LENGTH, folder=folder / "store"
    )


@pytest.fixture(scope="module")
def store(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return store_for(tiny, tmp_path_factory.mktemp("reading"))


def reader(model: Model, store: TokenStore, **options: Any) -> Reader:
    return Reader(model, store, SITE, **{"batch_tokens": 50, "block_rows": 20, "seed": 3, **options})


def by_hand(model: Model, rows: np.ndarray) -> Tensor:
    """Activations through transformers' own way out, in the eights that the reader takes."""
    ids = torch.from_numpy(rows.astype(np.int64))
    with torch.inference_mode():
        parts = [
            cast(Any, model.network)(ids[at : at + 8], output_hidden_states=True).hidden_states[3]
            for at in range(0, len(ids), 8)
        ]
    return torch.cat(parts)


def vectors(x: Tensor) -> Counter[bytes]:
    return Counter(row.numpy().tobytes() for row in x)


def test_what_is_trained_on_stays_where_the_model_is(
    tiny: Model, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = reader(tiny, store)
    moved: list[Tensor] = []
    monkeypatch.setattr(Tensor, "cpu", lambda self: moved.append(self) or self)
    _, batch = next(stream.batches())
    assert batch.device == stream.sample(20).device == tiny.device
    assert moved == []
    stream.read(np.asarray(store.tokens[:8]))
    assert len(moved) == 2, "what is measured is moved, activations and mask"


def test_batches_hold_each_usable_activation_of_a_block_once(tiny: Model, store: TokenStore) -> None:
    stream = reader(tiny, store)
    order = np.random.default_rng(3).permutation(len(store.tokens))
    found: dict[int, list[Tensor]] = {}
    for (block, batch), values in stream.batches():
        found.setdefault(block, []).append(values)
        assert len(found[block]) == batch, "a position is the one after the batch"
        assert values.shape == (50, tiny.width)
    assert list(found) == list(range(stream.num_blocks)) == list(range(-(-len(order) // 20)))
    norms = by_hand(tiny, np.asarray(store.tokens[np.sort(order[:32])]))[:, 1:].norm(dim=-1)
    sink = 5 * float(norms.median())
    for block, batches in found.items():
        rows = np.asarray(store.tokens[np.sort(order[block * 20 : block * 20 + 20])])
        values = by_hand(tiny, rows)
        usable = [
            values[r, p]
            for r in range(len(rows))
            for p in range(1, LENGTH)
            if rows[r, p] != store.separator and values[r, p].norm() < sink
        ]
        read = vectors(torch.cat(batches))
        assert sum(read.values()) == len(usable) // 50 * 50, (
            "only what does not fill the last batch is dropped"
        )
        assert read <= vectors(torch.stack(usable))


def test_the_order_within_a_block_is_shuffled(tiny: Model, store: TokenStore) -> None:
    stream = reader(tiny, store)
    activations, keep = stream.read(np.asarray(store.tokens[np.sort(stream.order[:20])]))
    in_order = activations[keep]
    shuffled = stream.block(0)
    assert vectors(shuffled) == vectors(in_order)
    same = (shuffled == in_order).all(1).float().mean()
    assert same < 0.1


def test_the_first_position_and_separators_are_left_out(tiny: Model, store: TokenStore) -> None:
    rows = np.asarray(store.tokens[:40])
    _, keep = reader(tiny, store).read(rows)
    assert not keep[:, 0].any()
    assert not keep[torch.from_numpy(rows == store.separator)].any()
    assert (rows[:, 1:] == store.separator).any()
    assert keep[:, 1:].float().mean() > 0.9


def test_sinks_are_left_out(tmp_path: Path) -> None:
    model = tiny_model()
    token = model.tokenizer(" dog").input_ids[0]
    with torch.no_grad():
        cast(Any, model.network).get_input_embeddings().weight[token] *= 40
    store = store_for(model, tmp_path)
    rows = np.asarray(store.tokens)
    stream = reader(model, store)
    activations, keep = stream.read(rows)
    sink = torch.from_numpy(rows == token)
    assert int(sink[:, 1:].sum()) > 10
    assert not keep[sink].any()
    norms = activations.norm(dim=-1)
    assert (
        float(norms[keep].max())
        < stream.sink_norms
        == 5
        * float(
            by_hand(model, np.asarray(store.tokens[np.sort(stream.order[:32])]))[:, 1:].norm(dim=-1).median()
        )
    )
    ordinary = ~sink & torch.from_numpy(rows != store.separator)
    ordinary[:, 0] = False
    assert (keep == (ordinary & (norms < stream.sink_norms))).all()


def test_reading_goes_on_from_any_position_with_the_same_bits(tiny: Model, store: TokenStore) -> None:
    whole = list(reader(tiny, store).batches())
    assert len(whole) > 10
    starts = [(0, 0), *(position for position, _ in whole)]
    for number in (0, 1, 2, len(whole) // 2, len(whole) - 1, len(whole)):
        rest = list(reader(tiny, store).batches(starts[number]))
        assert [position for position, _ in rest] == [position for position, _ in whole[number:]]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[number:], strict=True))


def test_the_bits_do_not_depend_on_the_number_of_cores(tiny: Model, store: TokenStore) -> None:
    found = []
    for count in (1, 3):
        with threads(count):
            found.append(list(reader(tiny, store).batches()))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(*found, strict=True))


def test_text_that_is_read_again_comes_in_another_order(tiny: Model, store: TokenStore) -> None:
    rows = len(store.tokens)
    once, twice = (reader(tiny, store, block_rows=rows, passes=passes) for passes in (1, 2))
    assert (once.num_blocks, twice.num_blocks) == (1, 2)
    first, second = twice.block(0), twice.block(1)
    assert torch.equal(first, once.block(0))
    assert not torch.equal(first, second)
    assert sum((vectors(first) & vectors(second)).values()) == len(first)
    resumed = [values for _, values in reader(tiny, store, block_rows=rows, passes=2).batches((1, 0))]
    assert torch.equal(torch.cat(resumed), second[: len(second) // 50 * 50])
    parts = [np.sort(reader(tiny, store, passes=2)._order_of(number)) for number in (0, 1)]
    assert all(np.array_equal(part, np.arange(rows)) for part in parts)
    with pytest.raises(InputError, match="at least; got 0 passes"):
        reader(tiny, store, passes=0)


def test_another_seed_reads_the_same_activations_in_another_order(tiny: Model, store: TokenStore) -> None:
    rows = len(store.tokens)
    one, two = (reader(tiny, store, seed=seed, block_rows=rows).block(0) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert sum((vectors(one) & vectors(two)).values()) == len(one)


def test_a_sample_is_the_first_of_the_order_and_always_the_same(tiny: Model, store: TokenStore) -> None:
    stream = reader(tiny, store)
    sample = stream.sample(100)
    assert sample.shape == (100, tiny.width)
    assert torch.equal(sample, reader(tiny, store).sample(100))
    rows = np.asarray(store.tokens[np.sort(stream.order[:13])])
    assert vectors(sample) <= vectors(by_hand(tiny, rows).flatten(0, 1))


def test_a_sample_of_more_than_there_is_is_all_there_is(tiny: Model, store: TokenStore) -> None:
    stream = reader(tiny, store)
    _, keep = stream.read(np.asarray(store.tokens))
    assert len(stream.sample(10**6)) == int(keep.sum())


def test_a_model_that_is_nan_everywhere_is_one_clear_error(store: TokenStore) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.network.get_parameter("model.layers.1.mlp.down_proj.weight")[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"Every activation at resid_post\.2 is NaN.*fp32"):
        next(iter(reader(model, store).batches()))


def test_a_nan_on_some_tokens_is_counted_in_one_clear_error(store: TokenStore) -> None:
    model = tiny_model()
    token = int(store.tokens[5, 9])
    with torch.no_grad():
        cast(Any, model.network).get_input_embeddings().weight[token] = float("nan")
    rows = np.asarray(store.tokens)
    tainted = int(np.maximum.accumulate(rows == token, axis=1).sum())
    with pytest.raises(InputError, match=r"^\d+ activations at resid_post\.2 are NaN") as caught:
        reader(model, store).read(rows)
    # Attention multiplies what it masks by zero, so that a NaN may reach earlier tokens of its row as well.
    assert tainted <= int(str(caught.value).split()[0]) <= int((rows == token).any(1).sum()) * LENGTH


def test_the_store_of_another_model_is_refused(store: TokenStore) -> None:
    with pytest.raises(InputError, match="another model's tokenizer"):
        reader(tiny_model(seed=1), store)


def test_a_site_that_does_not_exist_is_refused_before_anything_is_read(
    tiny: Model, store: TokenStore
) -> None:
    with pytest.raises(InputError, match="layers 0 to 3"):
        Reader(tiny, store, Site("resid_post", 4))


def test_the_stream_names_its_model(tiny: Model, store: TokenStore) -> None:
    assert reader(tiny, store).model_digest == tiny.digest
