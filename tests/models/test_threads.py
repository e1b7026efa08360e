from __future__ import annotations

import time

import pytest
import torch

from pellucid.models import threads

CPU = torch.device("cpu")


def test_results_come_in_the_order_of_the_parts() -> None:
    def work(part: int) -> int:
        time.sleep(0.001 * (7 - part))
        return part * part

    assert list(threads.over(work, range(7), CPU)) == [part * part for part in range(7)]
    assert list(threads.over(work, [], CPU)) == []


def test_a_product_runs_on_one_core_of_a_thread_and_the_caller_keeps_its_own() -> None:
    mine = torch.get_num_threads()
    assert set(threads.over(lambda _: torch.get_num_threads(), range(4), CPU)) == {1}
    assert torch.get_num_threads() == mine


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def work(part: int) -> float:
        return 1 / part

    with pytest.raises(ZeroDivisionError):
        list(threads.over(work, [1, 0, 2], CPU))
