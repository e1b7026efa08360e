"""A dictionary: encoder rows and decoder directions that turn an activation into a code and back.

T tokens, D width, N features. What is written need not be what is read: see `ports`. Where several sites are
read or written, an activation is the columns of all of them, and D is their sum; of a cross-layer transcoder
an encoder row has the width of the one site it reads.

One class serves every architecture, because trained they differ in one thing: which of the pre-activations
`x @ encoder.T + encoder_bias` count.

    topk        the k largest positive ones of each token (Gao et al. 2024, arXiv 2406.04093)
    jumprelu    those above the feature's own threshold (Rajamanoharan et al. 2024, arXiv 2407.14435); a
                BatchTopK dictionary (Bussmann et al. 2024, arXiv 2412.06410) is kept in this form
    relu        all positive ones

Decoder rows have unit norm and the normalisation of training is folded in, so that values are lengths in the
model's own residual stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.core import numbers
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import kernels
from pellucid.dictionaries.codes import Codes, offsets_of, rows_of
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.routing import Router
from pellucid.models.model import has_bf16_arithmetic

if TYPE_CHECKING:
    from pellucid.dictionaries.few import Few

Activation = Literal["topk", "jumprelu", "relu"]
_ROWS_AT_ONCE = 4096
_SCORES_AT_ONCE = 1 << 27
"""Of a very wide dictionary fewer rows are encoded at a time: pre-activations are [rows, N]."""
_FEW_ROWS = 256
"""Rows that are encoded at a time where what could be active is looked for first."""


@dataclass(frozen=True)
class Dictionary:
    """A trained sparse code."""

    ports: Ports
    """The sites it reads and writes."""
    model_digest: str
    activation: Activation
    encoder: Tensor
    """[N, D] float32."""
    encoder_bias: Tensor
    """[N] float32."""
    decoder: Tensor
    """[N, D] float32, unit rows."""
    decoder_bias: Tensor
    """[D] float32."""
    k: int | None = None
    """Features per token, for `topk`."""
    threshold: Tensor | None = None
    """[N] float32, for `jumprelu`."""
    maximum: Tensor | None = None
    """[N] float32: the largest activation of each feature over the measured text, the unit of steering."""
    frequency: Tensor | None = None
    """[N] float32: the share of tokens of that text on which each feature is active."""
    skip: Tensor | None = None
    """[D', D] float32, of a skip transcoder: what is written without a feature, by what is read."""
    router: Router | None = None
    """Where features are in groups of which a token visits a few: only in those can one be active."""

    def __post_init__(self) -> None:
        if (self.activation == "topk") != (self.k is not None):
            raise InputError(f"A {self.activation} dictionary with k = {self.k}: k belongs to topk alone.")
        if (self.activation == "jumprelu") != (self.threshold is not None):
            raise InputError(
                f"A {self.activation} dictionary {'without' if self.threshold is None else 'with'} threshold."
            )

    def to(self, device: torch.device | str) -> Dictionary:
        """The same dictionary with its tensors on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            n: t.to(device) for n, t in values.items() if isinstance(t, (Tensor, Router))
        }
        return replace(self, **moved)

    @property
    def num_features(self) -> int:
        """N."""
        return len(self.decoder)

    @property
    def site(self) -> Site:
        """The site it reads.

        Raises:
            InputError: when it reads several.
        """
        return self.ports.site

    @property
    def target(self) -> Site:
        """The site it writes.

        Raises:
            InputError: when it writes several.
        """
        return self.ports.target

    def directions(self, features: Tensor) -> list[tuple[Site, Tensor]]:
        """Each site of its model that it writes, with what features [F] write there by one [F, D]."""
        share = 2 if self.ports.beside else 1
        mine = self.ports.writes[: len(self.ports.writes) // share]
        pieces = self.decoder[features].chunk(len(self.ports.writes), dim=1)
        return list(zip(mine, pieces, strict=False))

    @property
    def width(self) -> int:
        """D: columns of what it reads."""
        return self.encoder.shape[1] * self.ports.parts

    def check_feature(self, feature: int) -> int:
        """The feature number, if the dictionary has it.

        Raises:
            InputError: when it does not.
        """
        return numbers.check_feature(feature, self.num_features, "dictionary")

    @cached_property
    def _encoder_bf16(self) -> Tensor:
        return self.encoder.bfloat16()

    def _approximate(self, x: Tensor) -> Tensor:
        """[T, N] bf16 pre-activations."""
        if self.ports.parts > 1 or (x.device.type == "cpu" and not has_bf16_arithmetic()):
            return self._scores(x).bfloat16()
        return torch.addmm(self.encoder_bias.bfloat16(), x.bfloat16(), self._encoder_bf16.T)

    def _scores(self, x: Tensor) -> Tensor:
        """[T, N] pre-activations."""
        if self.ports.parts == 1:
            return torch.addmm(self.encoder_bias, x, self.encoder.T)
        rows = self.encoder.chunk(self.ports.parts)
        products = [part @ mine.T for part, mine in zip(x.chunk(self.ports.parts, dim=1), rows, strict=True)]
        return torch.cat(products, dim=1) + self.encoder_bias

    def encode(self, x: Tensor) -> Codes:
        """The codes of some activations.

        Candidates come from a product rounded to bf16 where a kernel selects among them; every value is
        computed in fp32.

        Args:
            x: [T, D], any float dtype, on any device; the codes lie where the dictionary does.

        Raises:
            InputError: when an activation is NaN or infinite, or the width is not D.
        """
        x = self._checked(x)
        step = self._rows_at_once
        parts = [self._encode_rows(x[at : at + step]) for at in range(0, max(1, len(x)), step)]
        return _joined(parts, self.num_features)

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.width:
            raise InputError(f"Expected activations [tokens, {self.width}], got {list(x.shape)}.")
        x = x.detach().to(self.encoder.device, torch.float32)
        # A sum that is a number is of numbers, and quicker to ask; one that is none may be of large ones.
        if not math.isfinite(x.sum()) and not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x).all(1)).sum())
            raise InputError(
                f"{bad} of {len(x)} activations at {self.ports} are NaN or infinite. The model overflowed: "
                "load it with precision fp32, or check its weights."
            )
        return x

    def _encode_rows(self, x: Tensor) -> Codes:
        if self.router is not None:
            return self._encode_routed(x, self.router)
        if self.activation == "topk" and self.num_features >= 1024 and len(x) >= 64:
            assert self.k is not None
            counts, features = kernels.select_per_row(self._approximate(x), self.k)
            offsets = offsets_of(counts)
            values = kernels.dots(self.ports.by_part(x), self.encoder, offsets, features, self._reads)
            values += self.encoder_bias[features]
            keep = values > 0
            return Codes.from_entries(
                rows_of(counts, len(features))[keep],
                features[keep],
                values[keep],
                tokens=len(x),
                num_features=self.num_features,
            )
        if self._finds_few and len(x):
            return self._few.encode(x)
        scores = self._scores(x)
        if self.activation == "topk":
            assert self.k is not None
            values, features = scores.topk(min(self.k, self.num_features), dim=1)
            keep = values > 0
            rows_t = torch.arange(len(x), device=x.device)[:, None].expand_as(keep)
            return Codes.from_entries(
                rows_t[keep], features[keep], values[keep], tokens=len(x), num_features=self.num_features
            )
        bar = 0.0 if self.threshold is None else self.threshold.clamp(min=0)
        rows_t, features = (scores > bar).nonzero(as_tuple=True)
        return Codes.from_entries(
            rows_t, features, scores[rows_t, features], tokens=len(x), num_features=self.num_features
        )

    @property
    def _rows_at_once(self) -> int:
        if self._finds_few:
            return _FEW_ROWS
        router = self.router
        columns = (
            self.num_features if router is None else self.num_features // len(router.rows) * router.visits
        )
        return max(64, min(_ROWS_AT_ONCE, _SCORES_AT_ONCE // columns))

    @property
    def _finds_few(self) -> bool:
        """Whether what could be active is looked for with a rounded encoder."""
        by_itself = self.activation != "topk" and self.router is None and self.ports.parts == 1
        return by_itself and self.num_features >= 1024 and self.encoder.device.type == "cpu"

    def _encode_routed(self, x: Tensor, router: Router) -> Codes:
        """The same among the groups each token visits."""
        if self.activation == "topk":
            assert self.k is not None
            weights = self.encoder, self.encoder_bias
            scores, groups = router.scores(x, *weights, roughly=True, laid=self._laid)
            counts, columns = kernels.select_per_row(scores.bfloat16(), self.k)
            rows = rows_of(counts, len(columns))
            features = router.features(groups, rows, columns, self.num_features)
            offsets = offsets_of(counts)
            values = kernels.dots(x, self.encoder, offsets, features) + self.encoder_bias[features]
            keep = values > 0
            rows, features, values = rows[keep], features[keep], values[keep]
        else:
            bar = self._bar
            scores, groups = router.scores(x, self.encoder, self.encoder_bias - bar)
            rows, columns = (scores > 0).nonzero(as_tuple=True)
            features = router.features(groups, rows, columns, self.num_features)
            values = scores[rows, columns.long()] + bar[features]
        return Codes.from_entries(rows, features, values, tokens=len(x), num_features=self.num_features)

    def activations_of(self, x: Tensor, features: Tensor) -> Tensor:
        """[T, F] the activation of some features on [T, D], dense, in float32 and on the device of `x`.

        Costs F dot products a token; with `topk` or a router, whether a feature is active depends on more,
        and it costs an encoding.
        """
        if self.activation == "topk" or self.router is not None:
            codes = self.encode(x)
            wanted, place = torch.unique(features.to(codes.features.device), return_inverse=True)
            column = torch.full((self.num_features,), -1, device=wanted.device)
            column[wanted] = torch.arange(len(wanted), device=wanted.device)
            found = column[codes.features.long()]
            dense = torch.zeros(len(x), len(wanted), device=wanted.device)
            dense[codes.rows[found >= 0], found[found >= 0]] = codes.values[found >= 0]
            return dense[:, place].to(x.device)
        rows = self.encoder[features].to(x.device)
        if self.ports.parts == 1:
            scores = x.float() @ rows.T
        else:
            read = self.ports.by_part(x.float())[self._reads[features].long().to(x.device)]
            scores = (read * rows[:, None]).sum(2).T
        scores = scores + self.encoder_bias[features].to(x.device)
        bar = 0.0 if self.threshold is None else self.threshold[features].clamp(min=0).to(x.device)
        return torch.where(scores > bar, scores, 0).clamp(min=0)

    def activation_of(self, x: Tensor, feature: int) -> Tensor:
        """[T] the activation of one feature on [T, D]; see `activations_of`."""
        if self.activation == "topk" or self.router is not None or self.ports.parts > 1:
            return self.activations_of(x, torch.tensor([feature]))[:, 0]
        scores = torch.mv(x.float(), self.encoder[feature].to(x.device)) + float(self.encoder_bias[feature])
        bar = 0.0 if self.threshold is None else max(0.0, float(self.threshold[feature]))
        return torch.where(scores > bar, scores, 0)

    @cached_property
    def _reads(self) -> Tensor:
        """[N] the part of the input that each feature reads."""
        n = self.num_features
        return (torch.arange(n, device=self.encoder.device) * self.ports.parts // n).to(torch.int8)

    @cached_property
    def _laid(self) -> np.ndarray | None:
        return None if self.router is None else self.router.laid_out(self.encoder)

    @cached_property
    def _few(self) -> Few:
        from pellucid.dictionaries.few import Few

        return Few(self.encoder, self.encoder_bias, self._bar)

    @property
    def _bar(self) -> Tensor:
        """[N] what an activation must exceed."""
        return torch.zeros_like(self.encoder_bias) if self.threshold is None else self.threshold.clamp(min=0)

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Codes]:
        """What it writes for activations [T, D]: [T, D'] float32, and the codes."""
        codes = self.encode(x)
        rebuilt = self.decode(codes)
        if self.skip is not None:
            rebuilt += x.to(self.skip) @ self.skip.T
        return rebuilt, codes

    def decode(self, codes: Codes) -> Tensor:
        """[T, D'] float32: what codes stand for; of a skip transcoder, without what it writes by itself."""
        return kernels.decode(codes.offsets, codes.features, codes.values, self.decoder, self.decoder_bias)


def _joined(parts: list[Codes], num_features: int) -> Codes:
    if len(parts) == 1:
        return parts[0]
    return Codes(
        offsets_of(torch.cat([p.offsets.diff() for p in parts])),
        torch.cat([p.features for p in parts]),
        torch.cat([p.values for p in parts]),
        num_features,
    )
