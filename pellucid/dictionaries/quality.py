"""Measured quality: how well a dictionary stands in for the activations, beside random directions and PCA.

On held-out rows of text:

    unexplained     Σ‖x − x̂‖² / Σ‖x − mean‖², the mean over the whole evaluated set (fraction of variance
                    unexplained)
    ce_recovered    (CE₀ − CE) / (CE₀ − CE_plain), CE the model's loss with x̂ in place of x, CE₀ with zero in
                    its place
    kl              KL(plain ‖ with x̂), nats per token
    l0              active features per token
    dead            the share of features that fire on none of the evaluated tokens

The first position of a row, separators and attention sinks keep their own activation everywhere and are not
counted. Intervals are 95 % bootstrap intervals over rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.baselines import ByComponents, ByDictionary, Reconstructor, random_dictionary
from pellucid.models import hooks
from pellucid.models.model import Model

_ROWS_AT_ONCE = 4
_RESAMPLES = 1000


class RowReader(Protocol):
    """Reads rows of tokens at a site; `activations.reading.Reader` does."""

    @property
    def model(self) -> Model:
        """The model that reads."""

    @property
    def site(self) -> Site:
        """Where it reads."""

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Activations [rows, positions, D] and which of them count."""

    def sample(self, tokens: int) -> Tensor:
        """[tokens, D] of training text."""


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """How one reconstructor does."""

    unexplained: Figure
    ce_recovered: Figure
    kl: Figure
    l0: Figure
    dead: float | None
    """None for principal components, which are never silent."""


@dataclass(frozen=True)
class Comparison:
    """A dictionary and its baselines on the same text."""

    tokens: int
    """Evaluated tokens for the figures of reconstruction and loss."""
    dead_tokens: int
    """Evaluated tokens for `dead`, which needs more of them."""
    ce_plain: float
    """Loss of the plain model, nats per token."""
    ce_zero: float
    """Loss with zero in place of the activations."""
    methods: dict[str, Quality]
    """By name: `dictionary`, `random`, `pca`."""

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for a card."""
        return asdict(self)


def measure(
    dictionary: Dictionary,
    reader: RowReader,
    rows: np.ndarray,
    *,
    loss_rows: int = 64,
    progress: Progress = silent,
) -> Comparison:
    """Measure a dictionary and its baselines.

    Args:
        dictionary: what to measure.
        reader: reads its model at its site.
        rows: [rows, positions] held-out token ids; all serve for `dead`, the first `loss_rows` for the rest.
        loss_rows: rows on which the model is run six times over.
        progress: told of rows done.

    Raises:
        InputError: when there is no held-out text.
    """
    if len(rows) == 0:
        raise InputError("There is no held-out text to measure on. Give more text.")
    sample = reader.sample(16_384).float()
    k = max(1, round(ByDictionary(dictionary).reconstruct(sample[:2048])[1].double().mean().item()))
    randoms = random_dictionary(
        sample,
        features=dictionary.num_features,
        k=k,
        site=dictionary.site,
        model_digest=dictionary.model_digest,
    )
    methods: Mapping[str, Reconstructor] = {
        "dictionary": ByDictionary(dictionary),
        "random": ByDictionary(randoms),
        "pca": ByComponents.fit(sample, k),
    }
    used = rows[:loss_rows]
    sums: dict[str, list[list[float]]] = {name: [] for name in methods}
    plain_sums: list[list[float]] = []
    parts: list[Tensor] = []
    for at in range(0, len(used), _ROWS_AT_ONCE):
        batch = used[at : at + _ROWS_AT_ONCE]
        activations, keep = reader.read(batch)
        parts.append(activations[keep].float())
        tokens = torch.from_numpy(batch.astype(np.int64))
        plain = _logprobs(reader, tokens, None, keep)
        zero = _logprobs(reader, tokens, torch.zeros_like(activations), keep)
        counted = keep[:, :-1]
        plain_sums += _rows(counted, -_of_next(plain, tokens), -_of_next(zero, tokens))
        for name, method in methods.items():
            substitute = activations.clone()
            rebuilt, active = method.reconstruct(activations[keep].float())
            substitute[keep] = rebuilt.to(activations.dtype)
            changed = _logprobs(reader, tokens, substitute, keep)
            error = torch.zeros(keep.shape)
            error[keep] = (rebuilt - activations[keep].float()).square().sum(1)
            l0 = torch.zeros(keep.shape)
            l0[keep] = active.float()
            divergence = (plain.exp() * (plain - changed)).sum(-1)[:, :-1]
            by_loss = _rows(counted, -_of_next(changed, tokens), divergence)
            by_error = _rows(keep, error, l0)
            sums[name] += [[*a, *b] for a, b in zip(by_loss, by_error, strict=True)]
        progress("measure", min(len(used), at + _ROWS_AT_ONCE), len(used))
    everything = torch.cat(parts)
    spread = float((everything - everything.mean(0)).square().sum(1).mean())
    base = np.array(plain_sums)
    silent_share, dead_tokens = _dead([dictionary, randoms], reader, rows, progress)
    found = {
        name: _quality(np.array(values), base, spread, dead)
        for (name, values), dead in zip(sums.items(), (*silent_share, None), strict=True)
    }
    counts = base[:, 0].sum()
    return Comparison(
        tokens=int(np.array(sums["dictionary"])[:, 3].sum()),
        dead_tokens=dead_tokens,
        ce_plain=float(base[:, 1].sum() / counts),
        ce_zero=float(base[:, 2].sum() / counts),
        methods=found,
    )


def _logprobs(reader: RowReader, tokens: Tensor, substitute: Tensor | None, keep: Tensor) -> Tensor:
    """Log-probabilities [rows, positions, vocabulary], with the activations that count replaced."""
    model = reader.model

    def replace(x: Tensor) -> Tensor:
        assert substitute is not None
        return torch.where(keep[..., None].to(x.device), substitute.to(x), x)

    editors = [] if substitute is None else [(reader.site, replace)]
    with torch.inference_mode(), hooks.edited(model.network, editors):
        logits: Tensor = model.network(input_ids=tokens.to(model.device), use_cache=False).logits
    return logits.float().log_softmax(-1).cpu()


def _of_next(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """[rows, positions - 1] the log-probability of the token that follows."""
    return logprobs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def _rows(counted: Tensor, *values: Tensor) -> list[list[float]]:
    """Per row: how many positions count, and the sum of each value over them."""
    columns = [counted.sum(1).double(), *((v.double() * counted).sum(1) for v in values)]
    return torch.stack(columns, dim=1).tolist()


def _quality(sums: np.ndarray, base: np.ndarray, spread: float, dead: float | None) -> Quality:
    """Figures from sums per row.

    They are [count, loss, KL, count, squared error, L0] and [count, plain loss, zero loss].
    """
    draws = np.random.default_rng(0).integers(0, len(sums), (_RESAMPLES, len(sums)))

    def figure(of: Any) -> Figure:
        many = [of(sums[d].sum(0), base[d].sum(0)) for d in draws]
        low, high = np.quantile(many, [0.025, 0.975])
        return Figure(float(of(sums.sum(0), base.sum(0))), float(low), float(high))

    return Quality(
        unexplained=figure(lambda s, _: s[4] / s[3] / spread),
        ce_recovered=figure(lambda s, b: (b[2] - s[1]) / (b[2] - b[1])),
        kl=figure(lambda s, _: s[2] / s[0]),
        l0=figure(lambda s, _: s[5] / s[3]),
        dead=dead,
    )


def _dead(
    dictionaries: list[Dictionary], reader: RowReader, rows: np.ndarray, progress: Progress
) -> tuple[list[float], int]:
    """The share of each dictionary's features that never fire on the rows, and how many tokens those hold."""
    fired = [torch.zeros(d.num_features, dtype=torch.bool) for d in dictionaries]
    tokens = 0
    for at in range(0, len(rows), 64):
        activations, keep = reader.read(rows[at : at + 64])
        x = activations[keep]
        tokens += len(x)
        for dictionary, seen in zip(dictionaries, fired, strict=True):
            seen[dictionary.encode(x).features.long()] = True
        progress("silent features", min(len(rows), at + 64), len(rows))
    return [1 - float(seen.double().mean()) for seen in fired], tokens
