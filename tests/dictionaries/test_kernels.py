from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from pellucid.dictionaries import kernels, plain
from pellucid.dictionaries.base import bits_of
from pellucid.dictionaries.codes import Codes


def scores_of(rows: int, features: int, seed: int, kind: str) -> Tensor:
    """[rows, features] bf16 scores; few levels make ties, and some rows have nothing positive."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        scores = torch.randint(-2, 4, (rows, features), generator=generator).float()
    else:
        scores = (
            torch.randn(rows, features, generator=generator)
            * {"spread": 1.0, "tiny": 1e-37, "huge": 1e37}[kind]
        )
    scores[::3] = -scores[::3].abs()
    if kind == "spread":
        scores[1::4] -= 1.5
    return scores.bfloat16()


CASES = {
    "rows": st.integers(1, 9),
    "features": st.sampled_from([1, 2, 7, 63, 64, 65, 128, 200, 700]),
    "k": st.sampled_from([1, 2, 5, 32, 64, 300, 1000]),
    "seed": st.integers(0, 2**16),
    "kind": st.sampled_from(["ties", "spread", "tiny", "huge"]),
}


@given(**CASES)
def test_the_largest_of_each_row_are_those_of_the_reference(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, chosen = kernels.select_per_row(bits_of(scores), k)
    reference = plain.select_per_row(scores.float(), k)
    assert counts.tolist() == reference.offsets.diff().tolist()
    for b in range(rows):
        mine = chosen[b, : counts[b]]
        assert len(set(mine.tolist())) == len(mine)
        assert torch.equal(scores[b].float()[torch.from_numpy(mine).long()], reference.row(b)[1])


@given(**CASES)
def test_ties_go_to_the_lower_number(rows: int, features: int, k: int, seed: int, kind: str) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, chosen = kernels.select_per_row(bits_of(scores), k)
    for b in range(rows):
        order = sorted((-value, i) for i, value in enumerate(scores[b].tolist()) if value > 0)[:k]
        assert chosen[b, : counts[b]].tolist() == [i for _, i in order]


@given(**CASES)
@example(rows=1, features=64, k=1000, seed=0, kind="ties")
def test_the_largest_of_the_batch_are_those_of_the_reference(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, chosen = kernels.select_in_batch(bits_of(scores), k)
    reference = plain.select_in_batch(scores.float(), k).dense()
    found = torch.zeros(rows, features)
    entries = np.repeat(np.arange(rows), counts)
    found[entries, chosen] = scores.float()[entries, chosen]
    assert torch.equal(found, reference)
    assert len(chosen) == int((reference > 0).sum())
    assert all((np.diff(part) > 0).all() for part in np.split(chosen, counts.cumsum()[:-1]))


def test_one_row_that_holds_everything_is_found() -> None:
    scores = torch.full((300, 256), -1.0)
    scores[7] = torch.linspace(
        1, 2, 256
    )  # a sample of rows does not see it, and it needs more room than others
    counts, chosen = kernels.select_in_batch(bits_of(scores.bfloat16()), 1)
    reference = plain.select_in_batch(scores.bfloat16().float(), 1)
    assert counts.tolist() == reference.offsets.diff().tolist()
    assert counts[7] == len(chosen) == 256


def test_nothing_positive_selects_nothing() -> None:
    bits = bits_of(torch.tensor([[-1.0, 0.0, -0.0], [-3.0, -0.5, 0.0]]).bfloat16())
    assert kernels.select_per_row(bits, 2)[0].tolist() == [0, 0]
    assert kernels.select_in_batch(bits, 2)[0].tolist() == [0, 0]


def test_positive_bf16_numbers_sort_as_their_bits() -> None:
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0)).exp().bfloat16()
    assert torch.equal(
        numbers.argsort(stable=True), torch.from_numpy(bits_of(numbers).copy()).argsort(stable=True)
    )
    assert (bits_of(-numbers) < 0).all()


@given(st.integers(0, 2**16))
def test_the_histogram_counts_positive_numbers(seed: int) -> None:
    scores = scores_of(4, 50, seed, "ties")
    counts = kernels.histogram(bits_of(scores))
    assert len(counts) == 32768
    assert counts.sum() == int((scores > 0).sum())
    one = int(bits_of(torch.ones(1).bfloat16())[0])
    assert counts[one] == int((scores == 1).sum())


def sparse_problem(rows: int, features: int, width: int, seed: int) -> tuple[Codes, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, features, generator=generator) - 0.7
    codes = Codes.from_dense(dense)
    x, decoder = (torch.randn(n, width, generator=generator) for n in (rows, features))
    return codes, x, decoder, torch.randn(width, generator=generator)


SPARSE = {
    "rows": st.integers(1, 8),
    "features": st.integers(1, 30),
    "width": st.sampled_from([1, 3, 16, 33]),
    "seed": st.integers(0, 2**16),
}


@given(**SPARSE)
def test_dots_are_the_entries_of_the_dense_product(rows: int, features: int, width: int, seed: int) -> None:
    codes, x, matrix, _ = sparse_problem(rows, features, width, seed)
    found = kernels.dots(x.numpy(), matrix.numpy(), codes.offsets.numpy(), codes.features.numpy())
    expected = (x.double() @ matrix.double().T)[codes.rows, codes.features.long()]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@given(**SPARSE)
def test_decoding_is_that_of_the_reference(rows: int, features: int, width: int, seed: int) -> None:
    codes, _, decoder, bias = sparse_problem(rows, features, width, seed)
    found = kernels.decode(
        codes.offsets.numpy(), codes.features.numpy(), codes.values.numpy(), decoder.numpy(), bias.numpy()
    )
    np.testing.assert_allclose(found, plain.decode(codes, decoder, bias).numpy(), rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_entries_are_sorted_by_feature_and_keep_their_order_within_one(numbers: list[int]) -> None:
    starts, order = kernels.by_feature(np.array(numbers, np.int32), 10)
    assert order.tolist() == sorted(range(len(numbers)), key=lambda e: numbers[e])
    assert starts.tolist() == [sum(n < i for n in numbers) for i in range(11)]


@given(**SPARSE)
def test_prefixes_decode_as_their_features_alone(rows: int, features: int, width: int, seed: int) -> None:
    codes, x, decoder, bias = sparse_problem(rows, features, width, seed)
    ends = sorted({max(1, features // 3), max(1, features // 2), features})
    group = np.searchsorted(ends, np.arange(features), side="right").astype(np.int8)
    arrays = codes.offsets.numpy(), codes.features.numpy(), codes.values.numpy(), decoder.numpy()
    found = kernels.decode_prefixes(*arrays, bias.numpy(), group, len(ends))
    for end, mine in zip(ends, found, strict=True):
        expected = codes.dense()[:, :end] @ decoder[:end] + bias
        np.testing.assert_allclose(mine, expected.numpy(), rtol=1e-5, atol=1e-5)
    many = torch.stack([x * (n + 1) for n in range(len(ends))]).numpy()
    dots = kernels.dots_by_group(many, group, decoder.numpy(), *arrays[:2])
    alone = kernels.dots(x.numpy(), decoder.numpy(), *arrays[:2]) * (group[arrays[1]] + 1)
    np.testing.assert_allclose(dots, alone, rtol=1e-5, atol=1e-5)


@given(**CASES)
def test_positive_entries_are_all_found_in_order(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, found = kernels.positive(bits_of(scores))
    where = (scores > 0).nonzero()
    assert counts.tolist() == (scores > 0).sum(1).tolist()
    assert found.tolist() == where[:, 1].tolist()


@pytest.mark.parametrize("with_extra", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fused_update_is_autograd_then_adam_then_unit_rows(with_extra: bool, seed: int) -> None:
    """Five steps against dense autograd and torch.optim.Adam, in double precision; more out than in."""
    rows, features, inner, outer, variance = 24, 40, 16, 19, 16.0
    betas, epsilon = (0.9, 0.999), 6.25e-10
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    encoder, encoder_bias, decoder_bias = draw(features, inner), draw(features) - 1, draw(outer)
    decoder = torch.nn.functional.normalize(draw(features, outer), dim=1)
    mine = [encoder.clone().numpy(), decoder.clone().numpy()]
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in mine]
    theirs = [torch.nn.Parameter(w.double()) for w in (encoder, decoder)]
    adam = torch.optim.Adam(theirs, lr=1e-3, betas=betas, eps=epsilon)
    ends = (5, 12, features)
    group = np.searchsorted(ends, np.arange(features), side="right").astype(np.int8)
    for step in range(1, 6):
        x, aim = draw(rows, inner), draw(rows, outer)
        rate = 1e-3 * step  # it changes from step to step
        codes = plain.select_per_row(x @ torch.from_numpy(mine[0]).T + encoder_bias, 5)
        place = np.full(features, -1, np.int32)
        extra = [draw(4, inner) * 1e-2, draw(4, outer) * 1e-2]
        if with_extra:
            place[[1, 5, 8, 39]] = [2, 0, 3, 1]

        adam.zero_grad()
        active = codes.dense() > 0
        e, d = theirs
        values = torch.where(active, x.double() @ e.T + encoder_bias.double(), 0)
        loss = plain.loss(aim.double(), values, d, decoder_bias.double(), variance, ends)
        loss.backward()  # type: ignore[no-untyped-call]
        for weight, more in zip(theirs, extra, strict=True):
            assert weight.grad is not None
            for feature in (place >= 0).nonzero()[0]:
                weight.grad[feature] += more[place[feature]].double()
        assert d.grad is not None
        d.grad -= (d.grad * d.data).sum(1, keepdim=True) * d.data
        adam.param_groups[0]["lr"] = rate
        adam.step()
        d.data = torch.nn.functional.normalize(d.data, dim=1)

        offsets, numbers, found = (t.numpy() for t in (codes.offsets, codes.features, codes.values))
        errors = kernels.decode_prefixes(
            offsets, numbers, found, mine[1], decoder_bias.numpy(), group, len(ends)
        )
        slopes = ((errors - aim.numpy()) * (2 / (rows * variance * len(ends)))).astype(np.float32)
        slopes = np.ascontiguousarray(slopes[::-1].cumsum(0)[::-1])
        kernels.update(
            (mine[0], mine[1]),
            moments[0],
            moments[1],
            (
                codes.rows.numpy(),
                found,
                kernels.dots_by_group(slopes, group, mine[1], offsets, numbers),
            ),
            kernels.by_feature(numbers, features),
            x.numpy(),
            slopes,
            group,
            (place, *(g.numpy() for g in extra)),
            (rate, *betas, epsilon),
            step,
        )
        for weight, expected in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(weight, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
        # The moments are small, so they are compared by their own size.
        for (first, _), parameter in zip(moments, theirs, strict=True):
            average = adam.state[parameter]["exp_avg"].numpy()
            np.testing.assert_allclose(first, average, rtol=1e-4, atol=1e-5 * np.abs(average).max())
        np.testing.assert_allclose(np.linalg.norm(mine[1], axis=1), 1, rtol=1e-6)
