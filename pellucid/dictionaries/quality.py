"""Measured quality: how well a dictionary stands in for the activations, beside random directions and PCA.

On held-out rows of text, x being what the dictionary writes:

    unexplained     Σ‖x − x̂‖² / Σ‖x − mean‖², the mean over the whole evaluated set (fraction of variance
                    unexplained); of several sites, the mean of theirs
    ce_recovered    (CE₀ − CE) / (CE₀ − CE_plain), CE the model's loss with x̂ in place of x, CE₀ with zero in
                    its place, at all sites that are written; of two models, the mean of their losses
    kl              KL(plain ‖ with x̂), nats per token
    l0              active features per token
    dead            the share of features that fire on none of the evaluated tokens

The first position of a row, separators and attention sinks keep their own activation everywhere and are not
counted. Intervals are 95 % bootstrap intervals over rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.baselines import ByComponents, ByDictionary, Reconstructor, random_dictionary
from pellucid.dictionaries.figures import Figure, resampled
from pellucid.dictionaries.ports import Ports
from pellucid.models import hooks
from pellucid.models.model import Model

_ROWS_AT_ONCE = 4


class RowReader(Protocol):
    """Reads rows of tokens at the sites of a dictionary; `activations.reading.Reader` does."""

    @property
    def models(self) -> Sequence[Model]:
        """The model that reads, or two."""

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Activations [rows, positions, C] and which of them count."""

    def sample(self, tokens: int) -> Tensor:
        """[tokens, C] of training text."""


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
    by_site: list[float]
    """What the dictionary leaves unexplained at each site it writes."""

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
        reader: reads its model, or two, at its sites.
        rows: [rows, positions] held-out token ids; all serve for `dead`.
        loss_rows: so many of them serve for the rest, at equal distances, because a store is in the order of
            its sources; on them the model is run six times over.
        progress: told of rows done.

    Raises:
        InputError: when there is no held-out text.
    """
    if len(rows) == 0:
        raise InputError("There is no held-out text to measure on. Give more text.")
    dictionary = dictionary.to(reader.models[0].device)
    sample = reader.sample(16_384).float().cpu()
    k = max(1, round(ByDictionary(dictionary).reconstruct(sample[:2048])[1].double().mean().item()))
    randoms = random_dictionary(
        sample,
        features=dictionary.num_features,
        k=k,
        ports=dictionary.ports,
        model_digest=dictionary.model_digest,
    ).to(reader.models[0].device)
    methods: Mapping[str, Reconstructor] = {
        "dictionary": ByDictionary(dictionary),
        "random": ByDictionary(randoms),
        "pca": ByComponents.fit(sample, k, dictionary.ports),
    }
    count = min(loss_rows, len(rows))
    used = rows[np.arange(count) * len(rows) // count]
    sums: dict[str, list[list[float]]] = {name: [] for name in methods}
    plain_sums: list[list[float]] = []
    parts: list[Tensor] = []
    ports = dictionary.ports
    for at in range(0, len(used), _ROWS_AT_ONCE):
        batch = used[at : at + _ROWS_AT_ONCE]
        activations, keep = reader.read(batch)
        x = activations[keep].float()
        parts.append(_by_site(ports.written(x), ports))
        tokens = torch.from_numpy(batch.astype(np.int64))
        plain = _logprobs(reader, tokens, ports, None, keep)
        nothing = torch.zeros(*keep.shape, parts[0].shape[1] * parts[0].shape[2], dtype=activations.dtype)
        zero = _logprobs(reader, tokens, ports, nothing, keep)
        counted = keep[:, :-1]
        plain_sums += _rows(counted, -_of_next(plain, tokens), -_of_next(zero, tokens))
        for name, method in methods.items():
            rebuilt, active = method.reconstruct(x)
            substitute = nothing.clone()
            substitute[keep] = rebuilt.to(activations.dtype)
            changed = _logprobs(reader, tokens, ports, substitute, keep)
            l0 = torch.zeros(keep.shape)
            l0[keep] = active.float()
            error = torch.zeros(*keep.shape, len(ports.writes))
            error[keep] = (_by_site(rebuilt, ports) - parts[-1]).square().sum(2)
            divergence = (plain.exp() * (plain - changed)).sum(-1).mean(0)[:, :-1].cpu()
            by_loss = _rows(counted, -_of_next(changed, tokens), divergence)
            by_error = _rows(keep, l0, *error.unbind(-1))
            sums[name] += [[*a, *b] for a, b in zip(by_loss, by_error, strict=True)]
        progress("measure", min(len(used), at + _ROWS_AT_ONCE), len(used))
    everything = torch.cat(parts)
    spread = (everything - everything.mean(0)).square().sum(2).mean(0).double().numpy()
    base = np.array(plain_sums)
    silent_share, dead_tokens = _dead([dictionary, randoms], reader, rows, progress)
    found = {
        name: _quality(np.array(values), base, spread, dead)
        for (name, values), dead in zip(sums.items(), (*silent_share, None), strict=True)
    }
    counts = base[:, 0].sum()
    whole = np.array(sums["dictionary"]).sum(0)
    return Comparison(
        tokens=int(whole[3]),
        dead_tokens=dead_tokens,
        ce_plain=float(base[:, 1].sum() / counts),
        ce_zero=float(base[:, 2].sum() / counts),
        methods=found,
        by_site=(whole[5:] / whole[3] / spread).tolist(),
    )


def _by_site(x: Tensor, ports: Ports) -> Tensor:
    """[T, S, D] of the columns of the sites that are written."""
    return x.reshape(len(x), len(ports.writes), -1)


def _logprobs(
    reader: RowReader, tokens: Tensor, ports: Ports, substitute: Tensor | None, keep: Tensor
) -> Tensor:
    """Log-probabilities [models, rows, positions, vocabulary], with what is written and counts replaced.

    They stay where the models are: they are large, and what is made of them is small.
    """
    found = []
    pieces = [] if substitute is None else substitute.chunk(len(ports.writes), dim=-1)
    for number, model in enumerate(reader.models):
        share = len(ports.writes) // len(reader.models)
        mine = slice(number * share, (number + 1) * share)
        editors = [
            (s, _putting(piece, keep)) for s, piece in zip(ports.writes[mine], pieces[mine], strict=False)
        ]
        with torch.inference_mode(), hooks.edited(model.network, editors):
            logits: Tensor = model.network(input_ids=tokens.to(model.device), use_cache=False).logits
        found.append(logits.float().log_softmax(-1))
    return torch.stack(found)


def _putting(piece: Tensor, keep: Tensor) -> hooks.Editor:
    """Puts a piece [rows, positions, D] in place of what counts."""
    return lambda x: torch.where(keep[..., None].to(x.device), piece.to(x), x)


def _of_next(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """[rows, positions - 1] the log-probability of the token that follows, the mean over the models."""
    following = tokens[None, :, 1:, None].expand(len(logprobs), -1, -1, -1).to(logprobs.device)
    return logprobs[:, :, :-1].gather(-1, following)[..., 0].mean(0).cpu()


def _rows(counted: Tensor, *values: Tensor) -> list[list[float]]:
    """Per row: how many positions count, and the sum of each value over them."""
    columns = [counted.sum(1).double(), *((v.double() * counted).sum(1) for v in values)]
    return torch.stack(columns, dim=1).tolist()


def _quality(sums: np.ndarray, base: np.ndarray, spread: np.ndarray, dead: float | None) -> Quality:
    """Figures from sums per row.

    They are [count, loss, KL, count, L0, squared error by site] and [count, plain loss, zero loss].
    """

    def figure(of: Any) -> Figure:
        return resampled(len(sums), lambda rows: of(sums[rows].sum(0), base[rows].sum(0)))

    return Quality(
        unexplained=figure(lambda s, _: (s[5:] / s[3] / spread).mean()),
        ce_recovered=figure(lambda s, b: (b[2] - s[1]) / (b[2] - b[1])),
        kl=figure(lambda s, _: s[2] / s[0]),
        l0=figure(lambda s, _: s[4] / s[3]),
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
            seen[dictionary.encode(dictionary.ports.read(x)).features.long().cpu()] = True
        progress("silent features", min(len(rows), at + 64), len(rows))
    return [1 - float(seen.double().mean()) for seen in fired], tokens
