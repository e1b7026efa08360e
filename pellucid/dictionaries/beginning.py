"""Where training begins: at a sample of the stream, or at a trained dictionary, in scaled units.

Sources in docs/explanation/training.md: decoder bias started at the geometric median; encoder started as the
decoder, scaled so that the first reconstructions have the right length; where what is written is not what is
read, a feature starts by writing the mean of what is written while it is active.

T tokens, R parts of what is read, N features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.dictionaries import kernels, routing
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.kernels import Wiring
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.routing import Router
from pellucid.dictionaries.settings import TrainSettings, groups_of

_TOKENS = 1024  # on which the first length and the first thresholds are set
_NUMBERS = 2**26  # at most so many pre-activations of them
_RIDGE = 1e-3  # of the mean square of a column, for the first linear map of a skip transcoder


@dataclass
class Beginning:
    """The first weights."""

    encoder: Tensor
    """[N, D]."""
    decoder: Tensor
    """[N, D'] with unit rows."""
    vectors: dict[str, Tensor]
    """`encoder_bias` [N], `decoder_bias` [D'], and `skip` [D', D] of a skip transcoder."""
    router: Router | None = None

    def strongest(self, inputs: Tensor, k: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Pre-activations [T, N] of [R, T, D], or those visited, and the k largest of each row as entries."""
        bias = self.vectors["encoder_bias"]
        if self.router is not None:
            scores, groups = self.router.scores(inputs[0], self.encoder, bias, roughly=True)
            pre = scores.float()
        else:
            rows = self.encoder.chunk(len(inputs))
            pre = torch.cat([x @ mine.T for x, mine in zip(inputs, rows, strict=True)], dim=1)
            pre += bias
        values, columns = pre.topk(k, dim=1)
        features = columns.flatten().int()
        if self.router is not None:
            rows_of = torch.arange(len(pre), device=pre.device).repeat_interleave(k)
            features = self.router.features(groups, rows_of, features, len(bias))
        offsets = torch.arange(len(pre) + 1, device=pre.device) * k
        return pre, (offsets, features, values.clamp(min=0).flatten())


def from_sample(
    settings: TrainSettings, ports: Ports, wiring: Wiring, x: Tensor, centre: Tensor
) -> tuple[Beginning, Tensor]:
    """The first directions, and what follows from a sample.

    Args:
        settings: resolved.
        ports: what is read and written.
        wiring: of the features.
        x: [T, C] the columns of a sample.
        centre: [C] of it.

    Returns:
        The weights, and pre-activations [T', N] of the first of the sample, for the rule to begin by.
    """
    n, visits = settings.features, settings.visits
    generator = torch.Generator().manual_seed(settings.seed)
    inputs, aims = ports.inputs(x), ports.written(x)
    middle, base = ports.inputs(centre[None])[:, 0], ports.written(centre[None])[0]
    rows = torch.nn.functional.normalize(torch.randn(n, inputs.shape[2], generator=generator), dim=1)
    rows = rows.to(x.device)
    router: Router | None = None
    if visits is not None:
        router = routing.cluster(inputs[0] - middle[0], groups_of(n), visits, generator)
    if settings.token_share:
        tokens = routing.directions_of(inputs - middle[:, None], n, router, generator)
        rows = torch.nn.functional.normalize(rows + settings.token_share * tokens, dim=1)
    if router is not None:
        router = router.centred_at(middle[0])
    bias = -(rows * middle[wiring.reads.long()]).sum(1)
    begun = Beginning(rows, rows.clone(), {"decoder_bias": base, "encoder_bias": bias}, router)
    if settings.skip:
        aims = _fit_skip(begun.vectors, inputs[0], aims, middle[0])
    few = max(64, min(_TOKENS, _NUMBERS // n))
    if not ports.same:
        begun.decoder = _first_decoder(begun, settings, wiring, inputs, aims - base, few, generator)
    # Scale the encoder so that first reconstructions have the best length.
    pre, entries = begun.strongest(inputs[:, :few], settings.k)
    shape = kernels.decode(*entries, begun.decoder, torch.zeros_like(base))
    miss = aims[:few] - base
    factor = float((miss * shape).sum() / shape.square().sum().clamp(min=1e-9))
    begun.encoder *= factor
    begun.vectors["encoder_bias"] *= factor
    return begun, pre * factor


def _first_decoder(
    begun: Beginning,
    settings: TrainSettings,
    wiring: Wiring,
    inputs: Tensor,
    aims: Tensor,
    at_once: int,
    generator: torch.Generator,
) -> Tensor:
    """[N, D'] for each feature the mean of what is written where it is among the strongest."""
    k = settings.k
    rows = 1e-3 * torch.randn(settings.features, aims.shape[1], generator=generator).to(aims.device)
    for at in range(0, len(aims), at_once):
        _, (_, features, values) = begun.strongest(inputs[:, at : at + at_once], k)
        part = aims[at : at + at_once].repeat_interleave(k, dim=0)
        chosen, which = torch.unique(features, return_inverse=True)
        rows[chosen.long()] += routing.sums_by(which, part * values[:, None], len(chosen))
    rows *= torch.arange(aims.shape[1], device=rows.device) >= wiring.start[:, None]
    length: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / length


def _fit_skip(vectors: dict[str, Tensor], x: Tensor, aims: Tensor, middle: Tensor) -> Tensor:
    """Begin the linear map at the best one for the sample; returns what it leaves to the features."""
    centred, base = x - middle, vectors["decoder_bias"]
    ridge = _RIDGE * len(x) * torch.eye(x.shape[1], device=x.device)
    found: Tensor = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (aims - base))
    vectors["skip"] = found.T.contiguous()
    base -= middle @ found
    return aims - x @ found


def from_dictionary(
    settings: TrainSettings, ports: Ports, wiring: Wiring, start: Dictionary, reads: Tensor, writes: Tensor
) -> tuple[Beginning, Tensor]:
    """The weights of a dictionary.

    Args:
        settings: resolved.
        ports: what is read and written.
        wiring: of the features.
        start: the dictionary.
        reads: [R, D] the scale of each column that is read.
        writes: [D'] of each that is written.

    Returns:
        The weights, and the thresholds [N], for the rule to begin by.

    Raises:
        InputError: when it is of another size.
    """
    size = settings.features, reads.shape[1], str(ports)
    found = start.num_features, start.encoder.shape[1], str(start.ports)
    if size != found:
        raise InputError(
            "The dictionary to start from has {} features of width {} at {}, ".format(*found)
            + "and {} of width {} at {} are to be trained. Ask for what it has.".format(*size)
        )
    found_visits = None if start.router is None else start.router.visits
    if found_visits != settings.visits:
        raise InputError(
            f"The dictionary to start from was trained with visits {found_visits}, and "
            f"{settings.visits} was asked for. Ask for what it has."
        )
    start = start.to(writes.device)
    decoder = start.decoder * writes
    unit = decoder.norm(dim=1)
    vectors = {"decoder_bias": start.decoder_bias * writes, "encoder_bias": start.encoder_bias * unit}
    if settings.skip:
        skip = writes.new_zeros(len(writes), reads.shape[1]) if start.skip is None else start.skip
        vectors["skip"] = skip * writes[:, None] / reads[0]
    bars = torch.zeros_like(unit) if start.threshold is None else start.threshold
    begun = Beginning(
        encoder=start.encoder * (unit[:, None] / reads[wiring.reads.long()]),
        decoder=decoder / unit[:, None],
        vectors=vectors,
        router=None if start.router is None else start.router.reading(1 / reads[0]),
    )
    return begun, bars * unit


def geometric_median(points: Tensor, *, iterations: int = 30) -> Tensor:
    """[D] the point of least summed distance to [T, D] (Weiszfeld's iteration); outliers hardly move it."""
    centre = points.mean(0)
    for _ in range(iterations):
        weights = 1 / (points - centre).norm(dim=1).clamp(min=1e-6)
        centre = (points * weights[:, None]).sum(0) / weights.sum()
    return centre
