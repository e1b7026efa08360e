from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.scaling.distillation import DistillationLaw, Teacher, best_teacher, compare

LAW = DistillationLaw()


@given(st.floats(1e7, 1e11), st.floats(1e8, 1e14), st.floats(1.5, 4))
def test_the_law_is_its_equation(N: float, D: float, teacher: float) -> None:
    plain = 1.220 + (3355 / N**0.408 + 18186 / D**0.431) ** 0.452
    assert LAW.supervised(N, D) == pytest.approx(plain)
    ratio = (teacher / (plain * 1.315)) ** (1 / 0.090)
    gap = (2243 / N**0.321 + 24181 / D**0.637) ** 0.764
    told = teacher + gap / teacher**2.549 * (1 + ratio) ** (-522.61 * 0.090)
    assert LAW.distilled(N, D, teacher) == pytest.approx(told, rel=1e-9)


def test_a_teacher_far_worse_than_its_student_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        assert LAW.distilled(1e9, 1e11, 1e3) == pytest.approx(1e3)


def test_budgets_are_spent_to_the_last_flop() -> None:
    for share in (0.0, 0.25, 1.0):
        teacher = Teacher(3e9, 6e10, share)
        found = compare(1e9, 1e22, teacher)
        assert 6 * 1e9 * found.supervised_tokens == pytest.approx(1e22)
        spent = (6e9 + 2 * 3e9) * found.distilled_tokens + share * 6 * 3e9 * 6e10
        assert spent == pytest.approx(1e22)
        assert found.teacher_loss == LAW.supervised(3e9, 6e10)


def test_a_teacher_that_eats_the_budget_leaves_nothing_to_learn() -> None:
    found = compare(1e9, 1e20, Teacher(1e10, 1e12, 1.0))
    assert found.distilled_tokens == 0
    assert found.distilled_loss == math.inf
    assert found.better == "train"


def test_paying_for_more_of_the_teacher_never_helps() -> None:
    losses = [compare(1e9, 1e22, Teacher(3e9, 6e10, share)).distilled_loss for share in (0.0, 0.3, 0.6, 1.0)]
    assert losses == sorted(losses)


def test_the_best_teacher_is_the_best_of_its_grid() -> None:
    teacher, found = best_teacher(1e9, 1e21, paid_share=0.5, steps=12)
    for N in 1e9 * np.geomspace(0.1, 100, 12):
        for ratio in np.geomspace(2, 2000, 12):
            assert compare(1e9, 1e21, Teacher(N, N * ratio, 0.5)).distilled_loss >= found.distilled_loss
    assert teacher.paid_share == 0.5


def test_a_law_of_ones_own_is_used() -> None:
    hard = dataclasses.replace(LAW, A_distilled=1e9)
    plain, harder = (compare(1e9, 1e21, Teacher(3e9, 6e10), law) for law in (None, hard))
    assert harder.distilled_loss > plain.distilled_loss
    assert harder.supervised_loss == plain.supervised_loss


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="teacher's N and D above 0"):
        Teacher(0.0, 1e9)
    with pytest.raises(InputError, match="paid share from 0 to 1"):
        Teacher(1e9, 1e9, 1.5)
    with pytest.raises(InputError, match="student and a budget above 0"):
        compare(1e9, 0.0, Teacher(1e9, 1e10))
    with pytest.raises(InputError, match="gamma of the distillation law above 0"):
        DistillationLaw(gamma=0.0)
