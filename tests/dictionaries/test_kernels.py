from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.dictionaries import compiled, kernels, plain
from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.kernels import Adam, Extra, Wiring


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
    counts, chosen = kernels.select_per_row(scores, k)
    reference = plain.select_per_row(scores.float(), k)
    assert counts.tolist() == reference.offsets.diff().tolist()
    for b, mine in enumerate(chosen.split(counts.tolist())):
        assert len(set(mine.tolist())) == len(mine)
        assert torch.equal(scores[b].float()[mine], reference.row(b)[1])


@given(**CASES)
def test_ties_go_to_the_lower_number(rows: int, features: int, k: int, seed: int, kind: str) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, chosen = kernels.select_per_row(scores, k)
    for b, mine in enumerate(chosen.split(counts.tolist())):
        order = sorted((-value, i) for i, value in enumerate(scores[b].tolist()) if value > 0)[:k]
        assert mine.tolist() == [i for _, i in order]


@given(**CASES)
@example(rows=1, features=64, k=1000, seed=0, kind="ties")
def test_the_largest_of_the_batch_are_those_of_the_reference(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, chosen = kernels.select_in_batch(scores, k)
    reference = plain.select_in_batch(scores.float(), k).dense()
    found = torch.zeros(rows, features)
    entries = torch.repeat_interleave(torch.arange(rows), counts)
    found[entries, chosen] = scores.float()[entries, chosen]
    assert torch.equal(found, reference)
    assert len(chosen) == int((reference > 0).sum())
    assert all(bool((part.diff() > 0).all()) for part in chosen.split(counts.tolist()))


def test_one_row_that_holds_everything_is_found() -> None:
    scores = torch.full((300, 256), -1.0)
    scores[7] = torch.linspace(
        1, 2, 256
    )  # a sample of rows does not see it, and it needs more room than others
    counts, chosen = kernels.select_in_batch(scores.bfloat16(), 1)
    reference = plain.select_in_batch(scores.bfloat16().float(), 1)
    assert counts.tolist() == reference.offsets.diff().tolist()
    assert counts[7] == len(chosen) == 256


def test_nothing_positive_selects_nothing() -> None:
    scores = torch.tensor([[-1.0, 0.0, -0.0], [-3.0, -0.5, 0.0]]).bfloat16()
    assert kernels.select_per_row(scores, 2)[0].tolist() == [0, 0]
    assert kernels.select_in_batch(scores, 2)[0].tolist() == [0, 0]


def test_tensors_that_lie_where_there_are_no_kernels_are_refused() -> None:
    with pytest.raises(InputError, match="kernels for cpu and cuda, and the activations lie on 'meta'"):
        kernels.positive(torch.empty(2, 3, dtype=torch.bfloat16, device="meta"))


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 2**16))
def test_sums_are_those_of_each_feature_by_itself(features: list[int], seed: int) -> None:
    numbers = torch.randn(len(features), generator=torch.Generator().manual_seed(seed))
    found = kernels.sums(kernels.by_feature(torch.tensor(features, dtype=torch.int32), 7), numbers)
    expected = [
        math.fsum(x for f, x in zip(features, numbers.tolist(), strict=True) if f == i) for i in range(7)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_positive_bf16_numbers_sort_as_their_bits() -> None:
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0)).exp().bfloat16()
    assert torch.equal(numbers.argsort(stable=True), kernels._bits(numbers).argsort(stable=True))
    assert (kernels._bits(-numbers) < 0).all()


@given(st.integers(0, 2**16))
def test_the_histogram_counts_positive_numbers(seed: int) -> None:
    scores = scores_of(4, 50, seed, "ties")
    counts = compiled.histogram(kernels._bits(scores).numpy())
    assert len(counts) == 32768
    assert counts.sum() == int((scores > 0).sum())
    one = int(kernels._bits(torch.ones(1).bfloat16())[0])
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
    found = kernels.dots(x, matrix, codes.offsets, codes.features)
    expected = (x.double() @ matrix.double().T)[codes.rows, codes.features.long()]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@given(**SPARSE)
def test_decoding_is_that_of_the_reference(rows: int, features: int, width: int, seed: int) -> None:
    codes, _, decoder, bias = sparse_problem(rows, features, width, seed)
    found = kernels.decode(codes.offsets, codes.features, codes.values, decoder, bias)
    np.testing.assert_allclose(found, plain.decode(codes, decoder, bias).numpy(), rtol=1e-5, atol=1e-5)


@given(**SPARSE)
def test_a_miss_is_what_is_decoded_less_the_aim(rows: int, features: int, width: int, seed: int) -> None:
    codes, aim, decoder, bias = sparse_problem(rows, features, width, seed)
    wiring = Wiring.simple(features)
    wiring.start[features // 2 :] = width // 2
    decoder[features // 2 :, : width // 2] = 0
    errors, squares, along = kernels.miss(
        codes.offsets, codes.features, codes.values, decoder, bias, wiring, aim
    )
    expected = plain.decode(codes, decoder, bias) - aim
    np.testing.assert_allclose(errors[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(squares, expected.square().sum(1), rtol=1e-4, atol=1e-5)
    dense = (expected.double() @ decoder.double().T)[codes.rows, codes.features.long()]
    np.testing.assert_allclose(along, dense, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_entries_are_sorted_by_feature_and_keep_their_order_within_one(numbers: list[int]) -> None:
    starts, order = compiled.by_feature(np.array(numbers, np.int32), 10)
    assert order.tolist() == sorted(range(len(numbers)), key=lambda e: numbers[e])
    assert starts.tolist() == [sum(n < i for n in numbers) for i in range(11)]


@given(**SPARSE)
def test_a_tally_is_what_dense_values_say(rows: int, features: int, width: int, seed: int) -> None:
    codes, _, _, _ = sparse_problem(rows, features, width, seed)
    values = (codes.values - 0.4).clamp(min=0)
    dense = replace(codes, values=values).dense()
    silent_for, fired = torch.arange(features), torch.arange(features) * 3
    peak = torch.full((features,), 0.2)
    silent, most, times = silent_for.clone(), peak.clone(), fired.clone()
    kernels.tally(kernels.by_feature(codes.features, features), values, rows, silent, most, times)
    active = dense > 0
    assert torch.equal(silent, torch.where(active.any(0), 0, silent_for + rows))
    assert torch.equal(times, fired + active.sum(0))
    assert torch.equal(most, torch.cat([dense, peak[None]]).amax(0))


@given(**SPARSE)
def test_prefixes_decode_as_their_features_alone(rows: int, features: int, width: int, seed: int) -> None:
    codes, x, decoder, bias = sparse_problem(rows, features, width, seed)
    ends = sorted({max(1, features // 3), max(1, features // 2), features})
    wiring = Wiring.simple(features, tuple(ends))
    found = kernels.decode(codes.offsets, codes.features, codes.values, decoder, bias, wiring)
    for end, mine in zip(ends, found, strict=True):
        expected = codes.dense()[:, :end] @ decoder[:end] + bias
        np.testing.assert_allclose(mine, expected.numpy(), rtol=1e-5, atol=1e-5)
    many = torch.stack([x * (n + 1) for n in range(len(ends))])
    dots = kernels.dots(many, decoder, codes.offsets, codes.features, wiring.group)
    alone = kernels.dots(x, decoder, codes.offsets, codes.features) * (wiring.group[codes.features] + 1)
    np.testing.assert_allclose(dots, alone, rtol=1e-5, atol=1e-5)


@given(**CASES)
def test_positive_entries_are_all_found_in_order(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    counts, found = kernels.positive(scores)
    where = (scores > 0).nonzero()
    assert counts.tolist() == (scores > 0).sum(1).tolist()
    assert found.tolist() == where[:, 1].tolist()


@pytest.mark.parametrize("with_extra", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fused_update_is_autograd_then_adam_then_unit_rows(
    with_extra: bool, parts: int, seed: int
) -> None:
    """Five steps against dense autograd and torch.optim.Adam, in double precision; more out than in.

    With parts, a third of the features read each part of the input, and write from its column on.
    """
    rows, features, inner, outer, variance = 24, 40, 16, 19, 16.0
    betas, epsilon = (0.9, 0.999), 6.25e-10
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def pre_of(x: Tensor, e: Tensor, bias: Tensor) -> Tensor:
        by_part = torch.stack([part @ e.T for part in x])
        return by_part.gather(0, wiring.reads.long().expand(1, rows, -1))[0] + bias

    wiring = Wiring.simple(features, ends := (5, 12, features))
    if parts > 1:
        reads = (torch.arange(features) * parts // features).to(torch.int8)
        wiring = replace(wiring, reads=reads, start=reads.int() * 5)
    written = torch.arange(outer) >= wiring.start[:, None]
    encoder, encoder_bias, decoder_bias = draw(features, inner), draw(features) - 1, draw(outer)
    decoder = torch.nn.functional.normalize(draw(features, outer) * written, dim=1)
    mine = encoder.clone(), decoder.clone()
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in mine]
    theirs = [torch.nn.Parameter(w.double()) for w in (encoder, decoder)]
    adam = torch.optim.Adam(theirs, lr=1e-3, betas=betas, eps=epsilon)
    for step in range(1, 6):
        x, aim = draw(parts, rows, inner), draw(rows, outer)
        rate = 1e-3 * step  # it changes from step to step

        codes = plain.select_per_row(pre_of(x, mine[0], encoder_bias), 5)
        place = torch.full((features,), -1, dtype=torch.int32)
        extra = Extra(place, draw(4, inner) * 1e-2, draw(4, outer) * 1e-2)
        if with_extra:
            place[[1, 5, 8, 39]] = torch.tensor([2, 0, 3, 1], dtype=torch.int32)

        adam.zero_grad()
        e, d = theirs
        values = torch.where(codes.dense() > 0, pre_of(x.double(), e, encoder_bias.double()), 0)
        loss = plain.loss(aim.double(), values, d, decoder_bias.double(), variance, ends)
        loss.backward()  # type: ignore[no-untyped-call]
        for weight, more in zip(theirs, extra[1:], strict=True):
            assert weight.grad is not None
            for feature in (place >= 0).nonzero()[:, 0]:
                weight.grad[feature] += more[place[feature]].double()
        assert d.grad is not None
        d.grad *= written
        d.grad -= (d.grad * d.data).sum(1, keepdim=True) * d.data
        adam.param_groups[0]["lr"] = rate
        adam.step()
        d.data = torch.nn.functional.normalize(d.data, dim=1)

        entries = codes.offsets, codes.features
        errors = kernels.decode(*entries, codes.values, mine[1], decoder_bias, wiring)
        slopes = (errors - aim) * (2 / (rows * variance * len(ends)))
        slopes = slopes.flip(0).cumsum(0).flip(0).contiguous()
        value_slopes = kernels.dots(slopes, mine[1], *entries, wiring.group)
        kernels.update(
            mine,
            moments[0],
            moments[1],
            (codes.rows, codes.values, value_slopes),
            kernels.by_feature(codes.features, features),
            x,
            slopes,
            wiring,
            extra,
            Adam(rate, *betas, epsilon),
            step,
        )
        for weight, expected in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(weight, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
        # The moments are small, so they are compared by their own size.
        for (first, _), parameter in zip(moments, theirs, strict=True):
            average = adam.state[parameter]["exp_avg"].numpy()
            np.testing.assert_allclose(first, average, rtol=1e-4, atol=1e-5 * np.abs(average).max())
    np.testing.assert_allclose(mine[1].norm(dim=1), 1, rtol=1e-6)
    assert bool((mine[1][~written] == 0).all())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_clocks_of_their_own_rows_take_adams_steps_when_they_have_a_gradient(seed: int) -> None:
    """Sixty steps with few entries, against one torch.optim.Adam for each row, in double precision."""
    rows, features, inner, outer = 6, 40, 16, 19
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    encoder, decoder = draw(features, inner), torch.nn.functional.normalize(draw(features, outer), dim=1)
    mine = encoder.clone(), decoder.clone()
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in mine]
    clock, steps = torch.zeros(features, dtype=torch.int32), torch.zeros(features, dtype=torch.int32)
    theirs = [[torch.nn.Parameter(row.double()) for row in w] for w in mine]
    adams = [torch.optim.Adam(pair, eps=6.25e-10) for pair in zip(*theirs, strict=True)]
    wiring = Wiring.simple(features, (5, 12, features))
    for step in range(1, 61):
        rate = 1e-3 * min(1, step / 10)
        numbers = (torch.rand(rows, 2, generator=generator) ** 3 * (features - 2)).int().flatten()
        entries = torch.arange(rows).repeat_interleave(2), draw(2 * rows).abs(), draw(2 * rows) / 99
        place = torch.full((features,), -1, dtype=torch.int32)
        place[37] = 0 if step % 7 == 0 else -1
        extra = Extra(place, draw(1, inner) / 99, draw(1, outer) / 99)
        x, slopes = draw(1, rows, inner), draw(3, rows, outer) / 99
        gradients = torch.zeros(features, inner).double(), torch.zeros(features, outer).double()
        for feature, row, value, pre_slope in zip(numbers, *entries, strict=True):
            gradients[0][feature] += pre_slope * x[0, row]
            gradients[1][feature] += value * slopes[wiring.group[feature].long(), row]
        if place[37] == 0:
            gradients[0][37] += extra.encoder[0]
            gradients[1][37] += extra.decoder[0]
        for feature in {*numbers.tolist(), *([37] if place[37] == 0 else [])}:
            steps[feature] += 1
            e, d = theirs[0][feature], theirs[1][feature]
            e.grad = gradients[0][feature]
            d.grad = gradients[1][feature] - (gradients[1][feature] @ d.data) * d.data
            adams[feature].param_groups[0]["lr"] = rate
            adams[feature].step()
            d.data /= d.data.norm()
        kernels.update(
            mine,
            *moments,
            entries,
            kernels.by_feature(numbers, features),
            x,
            slopes,
            wiring,
            extra,
            Adam(rate, 0.9, 0.999, 6.25e-10),
            step,
            clock,
        )
        assert torch.equal(clock, steps)
    for weight, rows_of, start in zip(mine, theirs, (encoder, decoder), strict=True):
        torch.testing.assert_close(weight, torch.stack([r.data for r in rows_of]).float(), rtol=0, atol=1e-5)
        assert float((weight - start).abs().max()) > 1e-2
        assert torch.equal(weight[39], start[39]), "a row that never had a gradient stays"


def test_with_a_gradient_for_every_row_at_every_step_own_clocks_change_nothing() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = [torch.nn.functional.normalize(torch.randn(9, 8, generator=generator), dim=1) for _ in range(2)]
    found = []
    for clock in (None, torch.zeros(9, dtype=torch.int32)):
        draws = torch.Generator().manual_seed(6)
        mine = weights[0].clone(), weights[1].clone()
        moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in mine]
        for step in range(1, 20):
            x, slopes = (torch.randn(1, 9, 8, generator=draws) for _ in range(2))
            entries = torch.arange(9), torch.ones(9), torch.ones(9)
            by_feature = kernels.by_feature(torch.arange(9, dtype=torch.int32), 9)
            none = Extra(torch.full((9,), -1, dtype=torch.int32), torch.zeros(0, 8), torch.zeros(0, 8))
            kernels.update(
                mine, *moments, entries, by_feature, x, slopes, Wiring.simple(9), none,
                Adam(1e-3, 0.9, 0.999, 6.25e-10), step, clock,
            )  # fmt: skip
        found.append(mine)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
