from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pellucid.dictionaries.codes import Codes

SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 12), st.integers(0, 2**16))


def sparse(shape: tuple[int, int, int]) -> Tensor:
    """A tensor of few values, so that ties, empty rows and negative entries occur."""
    tokens, features, seed = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, (tokens, features), generator=generator).float()


def test_a_worked_example() -> None:
    codes = Codes.from_dense(
        torch.tensor([[0.0, 2.0, -1.0, 3.0], [0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 0.0, 0.0]])
    )
    assert codes.offsets.tolist() == [0, 2, 2, 4]
    assert codes.features.tolist() == [3, 1, 0, 1]
    assert codes.values.tolist() == [3, 2, 5, 5]
    assert codes.rows.tolist() == [0, 0, 2, 2]
    assert codes.mean_l0 == 4 / 3
    assert len(codes) == 3
    assert codes.column(1).tolist() == [2, 0, 5]


@given(SHAPES)
def test_codes_of_a_dense_tensor_are_its_positive_part(shape: tuple[int, int, int]) -> None:
    dense = sparse(shape)
    codes = Codes.from_dense(dense)
    assert torch.equal(codes.dense(), dense.clamp(min=0))
    assert (codes.offsets.dtype, codes.features.dtype, codes.values.dtype) == (
        torch.int64,
        torch.int32,
        torch.float32,
    )
    assert codes.num_features == dense.shape[1]
    assert bool((codes.values > 0).all())


@given(SHAPES)
def test_rows_come_strongest_first_and_columns_are_those_of_the_tensor(shape: tuple[int, int, int]) -> None:
    dense = sparse(shape)
    codes = Codes.from_dense(dense)
    for (features, values), row in zip(codes, dense, strict=True):
        assert values.tolist() == sorted(row[row > 0].tolist(), reverse=True)
        assert torch.equal(row[features.long()], values)
        assert len(set(features.tolist())) == len(features)
    for feature in range(codes.num_features):
        assert torch.equal(codes.column(feature), dense[:, feature].clamp(min=0))


@given(SHAPES, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(shape: tuple[int, int, int], dice: object) -> None:
    dense = sparse(shape)
    rows, features = (dense > 0).nonzero(as_tuple=True)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(shape[2]))
    codes = Codes.from_entries(
        rows[order],
        features[order],
        dense[rows, features][order],
        tokens=len(dense),
        num_features=dense.shape[1],
    )
    assert torch.equal(codes.dense(), dense.clamp(min=0))
    assert torch.equal(codes.offsets, Codes.from_dense(dense).offsets)


@pytest.mark.parametrize("token", [-1, 2])
def test_a_token_that_is_not_there_is_refused(token: int) -> None:
    with pytest.raises(IndexError, match=f"Token {token} is not among 2"):
        Codes.from_dense(torch.ones(2, 3)).row(token)


def test_codes_of_no_tokens_are_empty() -> None:
    codes = Codes.from_dense(torch.zeros(0, 5))
    assert len(codes) == 0
    assert codes.mean_l0 == 0
    assert codes.dense().shape == (0, 5)
    assert list(codes) == []
