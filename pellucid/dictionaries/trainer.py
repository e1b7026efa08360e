"""The state of a training run and one step of it: one dense encode, everything after it sparse.

A batch [B, C] holds the columns of every site that is read or written. What architectures differ in is in
`architectures` and a file for each. What they share, with its sources in docs/explanation/training.md: each
site scaled so that the mean squared distance from its centre is the width; first weights (`beginning`); unit
decoder rows with the parallel part of the gradient removed before Adam; a loss that lets silent features
explain the error (`auxiliary`); linear warm-up, and linear decay at the end.

It does not know where batches come from, nor when to stop: that is `training`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.dictionaries import architectures, auxiliary, beginning, kernels
from pellucid.dictionaries.architectures import Decoded, Entries
from pellucid.dictionaries.arriving import Arriving
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.beginning import Beginning, geometric_median
from pellucid.dictionaries.codes import offsets_of, rows_of
from pellucid.dictionaries.crew import ALONE, Crew
from pellucid.dictionaries.kernels import Adam, Extra
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.product import Product
from pellucid.dictionaries.routing import Router
from pellucid.dictionaries.settings import TrainSettings

_ADAM_BETAS = (0.9, 0.999)
_ADAM_EPSILON = 6.25e-10  # Gao et al. 2024: the default of 1e-8 is large beside these gradients


class Trainer:
    """The state of one training run, or of one worker's shard of it."""

    crew: Crew = ALONE

    def __init__(
        self,
        settings: TrainSettings,
        sample: Tensor,
        ports: Ports,
        start: Dictionary | None = None,
    ) -> None:
        """Start from a sample of the stream, [tokens, C], or from a dictionary, with the scale of the sample.

        Raises:
            InputError: when the dictionary is of another size, or the settings and ports do not go together.
        """
        self.settings = settings.resolved()
        self.ports = ports
        self.router: Router | None = None
        self.rule = architectures.of(self.settings)
        if settings.skip and (ports.same or ports.layered):
            raise InputError(
                f"A linear map beside the features belongs to a transcoder; this is a {ports.kind}."
            )
        if settings.visits is not None and ports.layered:
            raise InputError(
                f"Groups of features are visited by what all of them read; this is a {ports.kind}."
            )
        sample = sample.float()
        width = ports.width(sample.shape[1])
        sites = torch.split(sample, width, dim=1)
        centres = [geometric_median(x) for x in sites]
        # Scaled units: mean squared distance from the centre is D, so rates and penalties mean the same at
        # every site.
        spread = [(x - c).square().sum(1).mean() for x, c in zip(sites, centres, strict=True)]
        self.scale = (width / torch.stack(spread)).sqrt()
        self._set_up(width)
        if start is None:
            x, centre = sample * self._columns, torch.cat(centres) * self._columns
            begun, pre = beginning.from_sample(self.settings, ports, self.wiring, x, centre)
            self._begin(begun)
            self.rule.start(pre)
        else:
            begun, bars = beginning.from_dictionary(self.settings, ports, self.wiring, start, *self._scales)
            self._begin(begun)
            self.rule.take_up(bars)
        self.moments = {
            name: (torch.zeros_like(t), torch.zeros_like(t))
            for name, t in {"encoder": self.encoder, "decoder": self.decoder, **self.vectors}.items()
        }
        self.peak = torch.zeros_like(self.vectors["encoder_bias"])
        self.fired, self.silent_for = (torch.zeros_like(self.peak, dtype=torch.int64) for _ in range(2))
        self.clock = torch.zeros_like(self.peak, dtype=torch.int32)
        self.step = 0

    def _set_up(self, width: int) -> None:
        """What is derived from the rest and not kept."""
        self._product = Product()
        self._columns = self.scale.repeat_interleave(width)
        """[C] the scale of each column."""
        self.rule.crew = self.crew
        n, device = self.settings.features, self.scale.device
        wiring = self.ports.wiring(n, width, self.rule.prefixes, device)
        self.wiring = wiring.of(self.crew.own(n).to(device))
        self.variance = float(width * len(self.ports.writes))
        nowhere = torch.full((len(self.wiring.reads),), -1, dtype=torch.int32, device=device)
        inner, outer = width * len(self.ports.reads) // self.ports.parts, width * len(self.ports.writes)
        self._no_extra = Extra(nowhere, self.scale.new_zeros(0, inner), self.scale.new_zeros(0, outer))

    def _begin(self, begun: Beginning) -> None:
        self.encoder, self.decoder, self.router = begun.encoder, begun.decoder, begun.router
        self.vectors = self.rule.vectors = begun.vectors

    @property
    def _scales(self) -> tuple[Tensor, Tensor]:
        """The scale of each column that is read [R, D], and of each that is written [D']."""
        columns = self._columns[None]
        return self.ports.inputs(columns)[:, 0], self.ports.written(columns)[0]

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What to select by for [R, B, D]: [B, N] in bf16, or [B, P·S] of the groups visited [B, P]."""
        bias = self.vectors["encoder_bias"] - self.rule.bar
        if self.router is None:
            return self._product(x, self.encoder, bias), None
        scores, groups = self.router.scores(x[0], self.encoder, bias, roughly=True)
        return scores.bfloat16(), groups

    def _select(self, x: Tensor, scores: Tensor, groups: Tensor | None) -> Entries:
        """The entries of a batch [R, B, D] that count by their scores, with their values in fp32."""
        bias = self.vectors["encoder_bias"]
        counts, features = self.rule.select(scores, self.step)
        offsets = offsets_of(counts)
        if self.router is not None:
            assert groups is not None
            features = self.router.features(groups, rows_of(counts, len(features)), features, len(bias))
        pre = kernels.dots(x, self.encoder, offsets, features, self.wiring.reads) + bias[features]
        return self._entries(offsets, features, pre)

    def _entries(self, offsets: Tensor, features: Tensor, pre: Tensor) -> Entries:
        values = self.rule.values(pre, features)
        active = self.crew.sum((values > 0).sum(dtype=torch.float64))
        return Entries(offsets, features, pre, values, active, len(self.encoder))

    def _rebuild(self, entries: Entries, values: Tensor) -> Tensor:
        """[G, B, D] what each prefix of the features reconstructs, the last being all of them."""
        bias = self.crew.once(self.vectors["decoder_bias"])
        own = kernels.decode(entries.offsets, entries.features, values, self.decoder, bias, self.wiring)
        return self.crew.sum(own)

    def _explain(self, entries: Entries, aim: Tensor) -> tuple[Entries, Tensor, Tensor, Tensor | None]:
        """How far the entries of this worker's rows are from what is aimed at [B, D'].

        Returns:
            The entries of all rows, the errors [G, B, D'], the squared lengths [B] of those of all features,
            and, where one pass gives it, the product of each entry's decoder row with its error [E].
        """
        mine = self.crew.rows(len(aim))
        along: Tensor | None = None
        if self.crew.shards == self.wiring.groups == 1:
            errors, squares, along = kernels.miss(
                entries.offsets,
                entries.features,
                entries.values,
                self.decoder,
                self.vectors["decoder_bias"],
                self.wiring,
                aim[mine],
            )
        else:
            errors = self._rebuild(entries, entries.values).sub_(aim[mine])
            squares = torch.linalg.vector_norm(errors[-1], dim=1).square()
        if self.crew.groups > 1:
            parts = entries.offsets.diff(), entries.features, entries.pre
            counts, features, pre = map(self.crew.pool, parts)
            entries = self._entries(offsets_of(counts), features, pre)
            errors, squares = self.crew.pool(errors, dim=1), self.crew.pool(squares)
            along = None if along is None else self.crew.pool(along)
        return entries, errors, squares, along

    def rate(self) -> float:
        """The learning rate of the next step."""
        s = self.settings
        assert s.learning_rate is not None
        assert s.warmup_steps is not None
        left = (s.steps - self.step) / max(1.0, s.decay_fraction * s.steps)
        return s.learning_rate * min(1.0, (self.step + 1) / max(1, s.warmup_steps), left)

    def train_on(self, activations: Tensor) -> dict[str, float]:
        """One step on a batch [B, C]; returns the figures of the batch before the step."""
        columns = activations.float() * self._columns
        # An accelerator goes on with its work while these numbers, and those of the loss, are on their way.
        begun = Arriving(columns.sum(), *self._silent_by_part.unbind())
        x, aim = self.ports.inputs(columns), self.ports.written(columns)
        if self.settings.skip:
            aim = aim - x[0] @ self.vectors["skip"].T
        rate = self.rate()
        mine = x[:, self.crew.rows(len(aim))]
        scores = self._scores(mine)
        total, *silent = begun.read()
        self._check(total)
        entries, errors, squares, along = self._explain(self._select(mine, *scores), aim)
        weight = 1 / (len(aim) * self.variance)
        found = Arriving(squares.sum(dtype=torch.float64), entries.active, self.rule.seen(entries))
        rows, by_feature = entries.rows, entries.by_feature
        own = [int(number) for number in silent]
        num_silent = int(self.crew.total(float(sum(own))))
        extra, by_bias = self._auxiliary(x, errors[-1], own, num_silent)
        missed, active, seen = found.read()
        unexplained = missed * weight
        self._check(unexplained)
        self.step += 1
        # The loss is the mean over the prefixes; a feature bears on its own prefix and all that hold it.
        factor = 2 * weight / len(errors)
        slopes = errors.mul_(factor)
        for inner in range(len(slopes) - 2, -1, -1):
            slopes[inner] += slopes[inner + 1]
        value_slopes = (
            kernels.dots(slopes, self.decoder, entries.offsets, entries.features, self.wiring.group)
            if along is None
            else along * factor
        )
        pre_slopes, gradients = self.rule.slopes(
            entries, value_slopes, Decoded(aim, self.decoder, self._rebuild, weight)
        )
        gradients["decoder_bias"] = slopes[0].sum(0)
        if self.settings.skip:
            gradients["skip"] = slopes[0].T @ x[0]
        if len(by_bias):
            bias, place = gradients["encoder_bias"], extra.place
            gradients["encoder_bias"] = torch.where(place < 0, bias, bias + by_bias[place.clamp(min=0)])
        adam = Adam(rate, *_ADAM_BETAS, _ADAM_EPSILON)
        kernels.update(
            (self.encoder, self.decoder),
            self.moments["encoder"],
            self.moments["decoder"],
            (rows, entries.values, pre_slopes),
            by_feature,
            x,
            slopes,
            self.wiring,
            extra,
            adam,
            self.step,
            None if self.router is None else self.clock,
        )
        for name, gradient in gradients.items():
            kernels.move(self.vectors[name], self.moments[name], gradient, adam, self.step)
        self.rule.learn(seen, self.step)
        self._count(entries)
        return {
            "fvu": unexplained,
            "l0": active / entries.num_rows,
            "silent": float(num_silent),
            "rate": rate,
        }

    def _check(self, number: float) -> None:
        """Refuse to go on with what is no number."""
        if not math.isfinite(number):
            raise InputError(
                f"The loss is not a number at step {self.step + 1}: the stream holds NaN or infinite "
                "activations. Read the model in fp32, or lower the learning rate."
            )

    def _count(self, entries: Entries) -> None:
        """Maxima, frequencies, and for how long features have been silent."""
        if self.step == self.settings.first_step_of_decay:
            # From here on the weights hardly move: maxima and frequencies are measured on the rest of the
            # run.
            self.peak.zero_()
            self.fired.zero_()
        counters = self.silent_for, self.peak, self.fired
        kernels.tally(entries.by_feature, entries.values, entries.num_rows, *counters)

    @property
    def _silent(self) -> Tensor:
        """[N] which features have been silent for too long."""
        assert self.settings.silent_tokens is not None
        return self.silent_for >= self.settings.silent_tokens

    @property
    def _silent_by_part(self) -> Tensor:
        """[R] how many they are, by the part of the input that they read."""
        return self._silent.view(self.ports.parts, -1).sum(1)

    def _auxiliary(self, x: Tensor, error: Tensor, own: list[int], num_silent: int) -> tuple[Extra, Tensor]:
        """Gradients that let silent features explain the error [B, D'] of the others; see `auxiliary`.

        Args:
            x: [R, B, D] what was read.
            error: [B, D'].
            own: how many of this worker's features are silent, by the part that they read.
            num_silent: how many are, those of other workers among them.
        """
        if num_silent == 0:
            return self._no_extra, x.new_zeros(0)
        weights = self.encoder, self.vectors["encoder_bias"], self.decoder
        if self.router is not None:
            k = self.settings.k
            return auxiliary.gradients_within(x[0], error, weights, self._silent, self.router, k)
        most = min(num_silent, x.shape[2] // 2)
        return auxiliary.gradients(x, error, weights, self._silent, own, most, self.crew)

    @property
    def _measured_tokens(self) -> int:
        """Tokens that maxima and frequencies were measured on: those since the rate began to fall."""
        s = self.settings
        first = s.first_step_of_decay
        return (self.step - first + 1 if self.step >= first else self.step) * s.batch_tokens

    def dictionary(self, model_digest: str) -> Dictionary:
        """The dictionary as it stands, with the scale folded in."""
        reads, writes = self._scales
        decoder = self.decoder / writes
        unit = decoder.norm(dim=1)
        skip = self.vectors.get("skip")
        shared: dict[str, Any] = {
            "ports": self.ports,
            "model_digest": model_digest,
            "encoder": self.encoder * reads[self.wiring.reads.long()] * unit[:, None],
            "encoder_bias": self.vectors["encoder_bias"] * unit,
            "decoder": decoder / unit[:, None],
            "decoder_bias": self.vectors["decoder_bias"] / writes,
            "maximum": self.peak * unit,
            "frequency": self.fired / max(1, self._measured_tokens),
            "skip": None if skip is None else skip * reads[0] / writes[:, None],
            "router": None if self.router is None else self.router.reading(reads[0]),
        }
        return self.rule.dictionary(shared, unit)

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold."""
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            **{f"vector.{name}": t for name, t in self.vectors.items()},
            **{f"first.{name}": pair[0] for name, pair in self.moments.items()},
            **{f"second.{name}": pair[1] for name, pair in self.moments.items()},
            **{
                f"number.{name}": torch.tensor(value, dtype=torch.float64)
                for name, value in self.rule.numbers.items()
            },
            "scale": self.scale,
            "silent_for": self.silent_for,
            "peak": self.peak,
            "fired": self.fired,
            **self._routed_state(),
            "step": torch.tensor(self.step),
        }

    def _routed_state(self) -> dict[str, Tensor]:
        if self.router is None:
            return {}
        return {"clock": self.clock, "router": self.router.rows, "router_bias": self.router.bias}

    @classmethod
    def restore(
        cls, settings: TrainSettings, ports: Ports, state: dict[str, Tensor], crew: Crew = ALONE
    ) -> Trainer:
        """The trainer whose `state` this is; in a crew, the worker whose shard of a state this is."""
        self = cls.__new__(cls)
        self.settings, self.ports, self.crew = settings.resolved(), ports, crew
        self.rule = architectures.of(self.settings)
        for name in ("scale", "encoder", "decoder", "silent_for", "peak", "fired"):
            setattr(self, name, state[name])
        self.router = None
        if self.settings.visits is not None:
            if crew.size > 1:
                raise InputError("Groups of features are trained by one worker. Leave --workers out.")
            self.router = Router(state["router"], state["router_bias"], self.settings.visits)
            self.clock = state["clock"]

        def under(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}

        self.vectors, seconds = under("vector."), under("second.")
        self.moments = {name: (first, seconds[name]) for name, first in under("first.").items()}
        self.rule.vectors = self.vectors
        self.rule.numbers = {name: float(t) for name, t in under("number.").items()}
        self.step = int(state["step"])
        self._set_up(len(self.vectors["decoder_bias"]) // len(ports.writes))
        return self
