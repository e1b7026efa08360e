"""Distil or train: what a student learns from a teacher's predictions, against learning from text.

    supervised   L(N, D) = E + (A/N^alpha + B/D^beta)^gamma
    distilled    L_S = L_T + L_T^-c0 · (1 + (L_T / (L(N_S, D_S)·d1))^(1/f1))^(-c1·f1)
                           · (A'/N_S^alpha' + B'/D_S^beta')^gamma'

with the student's N_S and D_S and the teacher's loss L_T: Busbridge et al. 2025 (arXiv 2502.08606, eq. 8),
fitted on C4; N counts parameters without embeddings. A token of distillation costs the student's training and
the teacher's forward pass, 6·N_S + 2·N_T FLOPs (their section 5), and the teacher's own training, 6·N_T·D_T,
shared among its students.

The six supervised coefficients were compared with public code that fits the paper's runs, and agree. The nine
of distillation were typed from memory of the paper's appendix, which could not be had: whatever is printed
from them says so. What the abstract claims follows from them (`claims`), which proves no digit. Pass your own
fit where you have one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.planning import SERVING_FLOPS, TRAINING_FLOPS


@dataclass(frozen=True)
class DistillationLaw:
    """Both laws of one study, in its order of letters."""

    E: float = 1.220
    A: float = 3355.0
    B: float = 18186.0
    alpha: float = 0.408
    beta: float = 0.431
    gamma: float = 0.452
    A_distilled: float = 2243.0
    B_distilled: float = 24181.0
    alpha_distilled: float = 0.321
    beta_distilled: float = 0.637
    gamma_distilled: float = 0.764
    c0: float = 2.549
    c1: float = 522.61
    d1: float = 1.315
    f1: float = 0.090

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Expected {name} of the distillation law above 0; got {value!r}.")

    def supervised(self, N: Floats | float, D: Floats | float) -> Floats:
        """The loss of a model trained on text."""
        inner = self.A * np.power(N, -self.alpha) + self.B * np.power(D, -self.beta)
        return np.asarray(self.E + inner**self.gamma)

    def distilled(self, N: Floats | float, D: Floats | float, teacher_loss: Floats | float) -> Floats:
        """The loss of a student distilled on D tokens from a teacher of some loss."""
        inner = self.A_distilled * np.power(N, -self.alpha_distilled)
        inner = inner + self.B_distilled * np.power(D, -self.beta_distilled)
        log_ratio = np.log(teacher_loss) - np.log(self.supervised(N, D) * self.d1)
        # log(1 + r^(1/f1)) is taken in logs: the power alone overflows for a teacher much worse than its
        # student.
        gap = -self.c1 * self.f1 * np.logaddexp(0.0, log_ratio / self.f1)
        return np.asarray(
            teacher_loss + np.exp(gap - self.c0 * np.log(teacher_loss)) * inner**self.gamma_distilled
        )


@dataclass(frozen=True)
class Teacher:
    """A teacher's size, training and how much of that the student's budget carries."""

    N: float
    D: float
    """Tokens it was, or would be, trained on."""
    paid_share: float = 0.0
    """What this student pays of its training: 0 for a teacher that exists, 1 for one trained for it alone."""

    def __post_init__(self) -> None:
        if not (self.N > 0 and self.D > 0 and math.isfinite(self.N * self.D)):
            raise InputError(f"Expected a teacher's N and D above 0; got {self.N!r} and {self.D!r}.")
        if not 0 <= self.paid_share <= 1:
            raise InputError(f"Expected a paid share from 0 to 1; got {self.paid_share!r}.")


@dataclass(frozen=True)
class Comparison:
    """The same student and budget, both ways."""

    supervised_tokens: float
    supervised_loss: float
    distilled_tokens: float
    """0 when the teacher leaves nothing of the budget."""
    distilled_loss: float
    teacher_loss: float

    @property
    def better(self) -> str:
        """`distil` or `train`."""
        return "distil" if self.distilled_loss < self.supervised_loss else "train"


def compare(student: float, flops: float, teacher: Teacher, law: DistillationLaw | None = None) -> Comparison:
    """Spend a budget on a student by training and by distillation.

    Args:
        student: its parameters.
        flops: what may be spent.
        teacher: whom it would learn from.
        law: the distillation law; None for the published one.

    Raises:
        InputError: when student or budget is not above 0.
    """
    if not (student > 0 and flops > 0 and math.isfinite(student * flops)):
        raise InputError(f"Expected a student and a budget above 0; got {student!r} and {flops!r}.")
    law = law or DistillationLaw()
    plain_tokens = flops / (TRAINING_FLOPS * student)
    left = flops - teacher.paid_share * TRAINING_FLOPS * teacher.N * teacher.D
    tokens = max(0.0, left) / (TRAINING_FLOPS * student + SERVING_FLOPS * teacher.N)
    teacher_loss = float(law.supervised(teacher.N, teacher.D))
    return Comparison(
        supervised_tokens=plain_tokens,
        supervised_loss=float(law.supervised(student, plain_tokens)),
        distilled_tokens=tokens,
        distilled_loss=float(law.distilled(student, tokens, teacher_loss)) if tokens else math.inf,
        teacher_loss=teacher_loss,
    )


def best_teacher(
    student: float, flops: float, *, paid_share: float, law: DistillationLaw | None = None, steps: int = 60
) -> tuple[Teacher, Comparison]:
    """The teacher, on a grid of sizes and trainings, from which the student learns most for the budget.

    Sizes run from a tenth of the student to a hundred times it, trainings from 2 to 2,000 tokens per
    parameter.

    Args:
        student: its parameters.
        flops: what may be spent.
        paid_share: the share of the teacher's training that this student pays.
        law: the distillation law; None for the published one.
        steps: points along each axis.
    """
    options = [
        Teacher(float(N), float(N * ratio), paid_share)
        for N in student * np.geomspace(0.1, 100, steps)
        for ratio in np.geomspace(2, 2000, steps)
    ]
    found = [(option, compare(student, flops, option, law)) for option in options]
    return min(found, key=lambda pair: pair[1].distilled_loss)
