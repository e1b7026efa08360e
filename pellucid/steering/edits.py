"""Edits in value space: change the activation of a feature, keep everything else.

With a the activation of a feature on a token, d its unit decoder direction and m its maximum over the
measured text:

    set      a' = s·m            scale    a' = s·a            ablate   a' = 0
    cap      a' = min(a, s·m)    add      a' = a + s·m

and x' = x + (a' − a)·d: what the dictionary does not explain of x stays as it is. A strength s of 5 thus
means the same for every feature: five times the strongest it was ever seen. A raw vector v can be added too:
x' = x + s·v. Of a transcoder, a is read at the site it reads, and x is the site it writes.

Edits are per row of a batch and hold at every decoding step, on the prompt, on the answer, or on all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models.generation import Editor, Pass, Phase
from pellucid.steering import kernels

Kind = Literal["set", "scale", "ablate", "cap", "add"]
Scope = Literal["prompt", "answer", "all"]


@dataclass(frozen=True)
class FeatureEdit:
    """An edit of one feature."""

    kind: Kind
    feature: int
    strength: float = 0.0
    """In multiples of the feature's maximum; for `scale`, of its activation; unused by `ablate`."""
    scope: Scope = "all"
    """Which tokens it holds on."""

    def check(self, dictionary: Dictionary) -> None:
        """Refuse what would mean nothing.

        Raises:
            InputError: when the feature does not exist, was never active in the measured text, or the
                strength is no number or too large.
        """
        dictionary.check_feature(self.feature)
        if not math.isfinite(self.strength):
            raise InputError(f"The strength of an edit must be a number; got {self.strength}.")
        if self.kind in ("set", "cap", "add"):
            unit = self.unit(dictionary)
            if unit == 0:
                raise InputError(
                    f"Feature {self.feature} was never active in the measured text, so a multiple of its "
                    "maximum means nothing. Choose another feature."
                )
            if abs(self.strength * unit) > torch.finfo(torch.float32).max:
                raise InputError(
                    f"{self.strength:g} times the maximum of feature {self.feature} is larger than numbers "
                    "are. Give a smaller strength."
                )

    def unit(self, dictionary: Dictionary) -> float:
        """The feature's maximum."""
        if dictionary.maximum is None:
            raise InputError(
                "The dictionary holds no maxima, the unit of steering. "
                "Train it with this version of Pellucid."
            )
        return float(dictionary.maximum[self.feature])

    def wanted(self, activation: Tensor, dictionary: Dictionary) -> Tensor:
        """A' for a tensor of a."""
        if self.kind == "scale":
            return activation * self.strength
        if self.kind == "ablate":
            return torch.zeros_like(activation)
        target = self.strength * self.unit(dictionary)
        if self.kind == "set":
            return torch.full_like(activation, target)
        return activation.clamp(max=target) if self.kind == "cap" else activation + target


@dataclass(frozen=True)
class VectorEdit:
    """A raw vector added at a site."""

    vector: Tensor
    """[D]"""
    strength: float = 1.0
    """How many times the vector."""
    scope: Scope = "all"
    """Which tokens it holds on."""


Edit = FeatureEdit | VectorEdit


@dataclass(frozen=True)
class EditPlan:
    """The edits of each row of a batch at the one site that a dictionary writes."""

    dictionary: Dictionary
    rows: tuple[tuple[Edit, ...], ...]
    """For each row its edits, applied in order; no edits leave a row as it is, bit for bit."""

    def __post_init__(self) -> None:
        for edits in {id(e): e for e in self.rows}.values():
            held: set[tuple[int, str]] = set()
            for edit in edits:
                if not isinstance(edit, FeatureEdit):
                    continue
                edit.check(self.dictionary)
                places = {(edit.feature, p) for p in ("prompt", "answer") if edit.scope in ("all", p)}
                if places & held:
                    raise InputError(
                        f"Feature {edit.feature} is edited twice on the same tokens; the second would "
                        "undo the first. Give one edit for each feature, or different scopes."
                    )
                held |= places

    @classmethod
    def same(cls, dictionary: Dictionary, edits: Sequence[Edit], rows: int) -> EditPlan:
        """The same edits in every row."""
        return cls(dictionary, (tuple(edits),) * rows)

    @property
    def editors(self) -> list[tuple[Site, Editor]]:
        """What a generator takes."""
        if not any(self.rows):
            return []
        site, target = self.dictionary.site, self.dictionary.target
        if site == target:
            return [(site, InPlace(self))]
        held: dict[str, Tensor] = {}

        def read(x: Tensor, _this: Pass) -> Tensor:
            held["x"] = x
            return x

        return [(site, read), (target, lambda x, this: self.edit(x, held["x"], this))]

    def part(self, start: int, stop: int) -> EditPlan:
        """The plan of some of the rows."""
        return EditPlan(self.dictionary, self.rows[start:stop])

    def edit(self, x: Tensor, read: Tensor, this: Pass) -> Tensor:
        """The edited activations of [rows, positions, D], where `read` [rows, positions, D] was read."""
        out = x
        for row, edits in enumerate(self.rows):
            for edit in edits:
                if edit.scope not in ("all", this.phase):
                    continue
                if out is x:
                    out = x.clone()
                source = out[row] if read is x else read[row]
                out[row] += self._change(source, edit) * this.real[row, :, None].to(x.dtype)
        return out

    def _change(self, x: Tensor, edit: Edit) -> Tensor:
        """What one edit adds to one row, by what is read of it [positions, D]."""
        if isinstance(edit, VectorEdit):
            return (edit.strength * edit.vector).to(x)[None]
        activation = self.dictionary.activation_of(x, edit.feature)
        change = edit.wanted(activation, self.dictionary) - activation
        return torch.outer(change, self.dictionary.decoder[edit.feature].to(x.device)).to(x.dtype)


class _Itself:
    """A thing that equals itself alone."""

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._thing is other._thing

    def __hash__(self) -> int:
        return id(self._thing)


@dataclass(frozen=True)
class InPlace:
    """The editor of a plan whose dictionary reads the site that it writes."""

    plan: EditPlan

    def __call__(self, x: Tensor, this: Pass) -> Tensor:
        """The edited activations of [rows, positions, D]."""
        return self.plan.edit(x, x, this)

    @cached_property
    def kin(self) -> object | None:
        """What it has in common with those it can edit together with, if there are any."""
        dictionary, (edits, *others) = self.plan.dictionary, self.plan.rows
        alone = dictionary.activation != "topk" and dictionary.router is None and dictionary.ports.parts == 1
        plain = not others and all(isinstance(edit, FeatureEdit) for edit in edits)
        return dictionary if alone and plain and dictionary.encoder.device.type == "cpu" else None

    def mark(self, phase: Phase) -> Hashable | None:
        """What it does to tokens of a phase: equal for those that do the same, none where it is not said."""
        edits, *others = self.plan.rows
        if others or not all(isinstance(edit, FeatureEdit) for edit in edits):
            return None
        told = tuple(replace(e, scope="all") for e in edits if e.scope in ("all", phase))
        return (_Itself(self.plan.dictionary), told) if told else ()

    @cached_property
    def _jobs(self) -> dict[Phase, tuple[list[int], list[int], list[float]]]:
        """For tokens of each phase: features, kinds and amounts of its edits."""
        found: dict[Phase, tuple[list[int], list[int], list[float]]] = {}
        for phase in get_args(Phase):
            edits = [e for e in self.plan.rows[0] if isinstance(e, FeatureEdit) and e.scope in ("all", phase)]
            units = [e.unit(self.plan.dictionary) if e.kind in ("set", "cap", "add") else 1.0 for e in edits]
            found[phase] = (
                [e.feature for e in edits],
                [get_args(Kind).index(e.kind) for e in edits],
                [e.strength * unit for e, unit in zip(edits, units, strict=True)],
            )
        return found

    @staticmethod
    def together(x: Tensor, jobs: Sequence[tuple[InPlace, slice, Phase]]) -> None:
        """Edit rows of x [M, D] float32, in place, each by the editor it stands beside; all are kin."""
        dictionary = jobs[0][0].plan.dictionary
        told = [editor._jobs[phase] for editor, _, phase in jobs]
        features, kinds, amounts = ([v for t in told for v in t[part]] for part in range(3))
        none = np.empty(0, np.float32)
        kernels.edit_rows(
            x.numpy(),
            np.array([(rows.start, rows.stop) for _, rows, _ in jobs]),
            np.cumsum([0, *(len(t[0]) for t in told)]),
            np.array(features, np.int64),
            np.array(kinds, np.int64),
            np.array(amounts, np.float32),
            dictionary.encoder.numpy(),
            dictionary.encoder_bias.numpy(),
            none if dictionary.threshold is None else dictionary.threshold.numpy(),
            dictionary.decoder.numpy(),
        )


def parse_assignment(text: str, kind: Kind, scope: Scope = "all") -> FeatureEdit:
    """Read `FEATURE=STRENGTH` (for `ablate`, `FEATURE`).

    Raises:
        InputError: when it is not of that form.
    """
    feature, _, strength = text.partition("=")
    try:
        if kind == "ablate":
            return FeatureEdit(kind, int(text), 0.0, scope)
        return FeatureEdit(kind, int(feature), float(strength), scope)
    except ValueError:
        form = "FEATURE, such as 512" if kind == "ablate" else "FEATURE=STRENGTH, such as 512=5"
        raise InputError(f"An edit is written {form}; got {text!r}.") from None
