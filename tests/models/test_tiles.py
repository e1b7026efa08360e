from __future__ import annotations

import numpy as np
import pytest
import torch
from numba import njit

from pellucid.models import tiles
from pellucid.models.tiles import CONFIGURATIONS, address, bytewise, configured, released


@njit
def tile(x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    configured(address(CONFIGURATIONS) + 64 * 16)
    bytewise(address(x), address(weights), x.shape[0], address(out))
    released()


@pytest.mark.skipif(not tiles.has_tile_unit("int8"), reason="this processor has no AMX for int8")
@pytest.mark.parametrize("inputs", [64, 100, 576])
def test_a_tile_of_bytes_is_the_product_of_whole_numbers(inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    weights, wide = rng.integers(-127, 128, (40, inputs)), tiles.padded(inputs, tiles.BYTES)
    packed = tiles.packed_bytes(torch.from_numpy(weights))
    assert packed.shape == (2, wide // 64, 2, 16, 16, 4)
    x = rng.integers(-127, 128, (2, 16, wide)).astype(np.int8)
    cut = np.ascontiguousarray(x.reshape(2, 16, -1, 64).transpose(2, 0, 1, 3))
    out, wanted = np.empty((16, 2, 32), np.int32), x[:, :, :inputs].astype(int) @ weights.T
    tile(cut, packed[0], out)
    np.testing.assert_array_equal(out.swapaxes(0, 1), wanted[:, :, :32])
    tile(cut, packed[1], out)
    np.testing.assert_array_equal(out[:, :, :8].swapaxes(0, 1), wanted[:, :, 32:])
    assert not out[:, :, 8:].any(), "what is padded is zero"


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1000, 7, 2)])
def test_an_aligned_array_begins_with_a_line_of_the_cache(shape: tuple[int, ...]) -> None:
    found = tiles.aligned(shape, np.int32)
    assert found.ctypes.data % 64 == 0
    assert found.shape == shape
    assert found.flags.c_contiguous
    assert found.flags.writeable
