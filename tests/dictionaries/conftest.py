"""What several tests of dictionaries need."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small kernels gain nothing from more threads, and wait at every barrier where the machine is busy."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)
