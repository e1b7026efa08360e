"""Training a dictionary on a stream of activations: one dense encode, everything after it sparse.

The stream gives batches [B, D] in a fixed order; the trainer gives a dictionary. Kill it at any moment: the
same call on the same run folder goes on from the last checkpoint to the very weights of a run that was not
interrupted, bit for bit.

Recipe, with its sources in docs/explanation/training.md: inputs scaled so that the mean squared distance from
their centre is D; decoder bias started at the geometric median; encoder started as the decoder, scaled so
that the first reconstructions have the right length; unit decoder rows with the parallel part of the gradient
removed before Adam; an auxiliary loss that lets silent features explain the error (Gao et al. 2024); linear
warm-up, and linear decay at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import kernels
from pellucid.dictionaries.base import Dictionary, bits_of

Architecture = Literal["topk", "batchtopk"]

_AUXILIARY_WEIGHT = 1 / 32  # Gao et al. 2024, A.2
_AUXILIARY_ROWS = 1024  # silent features are few: a quarter of the batch shows them the error well enough
_ADAM_BETAS = (0.9, 0.999)
_ADAM_EPSILON = 6.25e-10  # Gao et al. 2024: the default of 1e-8 is large beside these gradients
_THRESHOLD_DECAY = (
    0.99  # of the last bars; a slower average lags while bars still fall, and saves a dictionary too sparse
)


@dataclass(frozen=True)
class TrainSettings:
    """What a training run is asked for. What is left at none is derived, and saved resolved."""

    features: int = 4096
    """How many features the dictionary has."""
    k: int = 32
    """How many features are active on a token, on average for batchtopk."""
    architecture: Architecture = "batchtopk"
    """topk keeps k features on every token; batchtopk, saved as jumprelu, keeps k per token on average."""
    tokens: int = 1_000_000
    """How many tokens to train on; a last batch that is begun is filled."""
    batch_tokens: int = 4096
    """Tokens per step."""
    learning_rate: float | None = None
    """Peak of Adam's rate; by default 6e-4 / √(features / 2¹⁴), at most 1e-3."""
    warmup_steps: int | None = None
    """Steps of linear warm-up; by default a twentieth of all, at most 500."""
    decay_fraction: float = 0.2
    """The last part of the run, over which the rate falls linearly to zero."""
    silent_tokens: int | None = None
    """A feature that fired on none of so many tokens gets the auxiliary loss; by default a tenth of the run,
    at most ten million."""
    seed: int = 0
    """Seeds the start of the decoder."""

    @property
    def steps(self) -> int:
        """Optimiser steps in the run: as many as give at least the tokens asked for."""
        return -(-self.tokens // self.batch_tokens)

    def resolved(self) -> TrainSettings:
        """The same settings with every default filled in.

        Raises:
            InputError: when a number makes no sense.
        """
        if not 1 <= self.k <= self.features:
            raise InputError(
                f"k must lie between 1 and the number of features ({self.features}); got {self.k}."
            )
        if min(self.tokens, self.batch_tokens) < 1:
            raise InputError(
                f"tokens and batch_tokens must be positive; got {self.tokens} and {self.batch_tokens}."
            )
        return replace(
            self,
            learning_rate=self.learning_rate or min(1e-3, 6e-4 / math.sqrt(self.features / 2**14)),
            warmup_steps=min(500, 1 + self.steps // 20) if self.warmup_steps is None else self.warmup_steps,
            silent_tokens=self.silent_tokens or min(10_000_000, max(1, self.tokens // 10)),
        )


class ActivationStream(Protocol):
    """Batches of activations in a fixed order that can be taken up anywhere."""

    @property
    def site(self) -> Site:
        """Where the activations are read."""

    @property
    def model_digest(self) -> str:
        """The model they are read from."""

    def sample(self, tokens: int) -> Tensor:
        """[tokens, D] the first activations of the stream, always the same."""

    def batches(self, position: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Batches [B, D] from a position on, each with the position after it."""


class Trainer:
    """The state of one training run."""

    def __init__(self, settings: TrainSettings, sample: Tensor) -> None:
        """Start from a sample of the stream, [tokens, D]."""
        self.settings = settings.resolved()
        n, width = settings.features, sample.shape[1]
        sample = sample.float()
        centre = geometric_median(sample)
        # Scaled units: mean squared distance from the centre is D, so rates and penalties mean the same at
        # every site.
        self.scale = math.sqrt(width / float((sample - centre).square().sum(1).mean()))
        self.variance = float(width)
        generator = torch.Generator().manual_seed(settings.seed)
        decoder = torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=1)
        centre = centre * self.scale
        self.decoder = decoder
        self.decoder_bias = centre.clone()
        self.encoder = decoder.clone()
        self.encoder_bias = -(decoder @ centre)
        self.first = self._zeros()
        self.second = self._zeros()
        self.bias_first, self.bias_second = torch.zeros(width), torch.zeros(width)
        self.silent_for = torch.zeros(n, dtype=torch.int64)
        self.peak, self.fired = torch.zeros(n), torch.zeros(n, dtype=torch.int64)
        self.threshold = torch.zeros(())
        self.step = 0
        self._buffers: tuple[Tensor, Tensor, Tensor] | None = None
        self._match_length(sample[: settings.batch_tokens] * self.scale)

    def _zeros(self) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.zeros_like(self.encoder),
            torch.zeros_like(self.encoder_bias),
            torch.zeros_like(self.decoder),
        )

    def _match_length(self, x: Tensor) -> None:
        """Scale the encoder so that the first reconstructions have the best length (least squares)."""
        offsets, features, values = self._select(x)
        aim = (x - self.decoder_bias).numpy()
        shape = kernels.decode(
            offsets, features, values, self.decoder.numpy(), np.zeros(x.shape[1], np.float32)
        )
        factor = float((aim * shape).sum() / max(1e-9, (shape * shape).sum()))
        self.encoder *= factor
        self.encoder_bias *= factor

    def _select(self, x: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The active entries of a batch in compressed rows, with their values in fp32."""
        k = self.settings.k
        bits = bits_of(self._product(x))
        if self.settings.architecture == "topk":
            counts, chosen = kernels.select_per_row(bits, k)
            features = chosen[np.arange(k)[None] < counts[:, None]]
        else:
            counts, features = kernels.select_in_batch(bits, k)
        offsets = np.concatenate([[0], counts.cumsum()])
        values = kernels.dots(x.numpy(), self.encoder.numpy(), offsets, features)
        values += self.encoder_bias.numpy()[features]
        np.maximum(values, 0, out=values)
        return offsets, features, values

    def _product(self, x: Tensor) -> Tensor:
        """[B, N] the pre-activations in bf16: the one dense product of a step.

        The bias rides as one more column (padded to a full vector register), so that the product needs no
        second pass, and the buffers are kept, because fresh pages cost a sixth of the time.
        """
        rows, width = x.shape
        if self._buffers is None or len(self._buffers[0]) != rows:
            n = self.settings.features
            padded = [torch.zeros(m, width + 32, dtype=torch.bfloat16) for m in (rows, n)]
            self._buffers = (padded[0], padded[1], torch.empty(rows, n, dtype=torch.bfloat16))
        inputs, weights, product = self._buffers
        inputs[:, :width], inputs[:, width] = x, 1
        weights[:, :width], weights[:, width] = self.encoder, self.encoder_bias
        return torch.mm(inputs, weights.T, out=product)

    def rate(self) -> float:
        """The learning rate of the next step."""
        s = self.settings
        assert s.learning_rate is not None
        assert s.warmup_steps is not None
        left = (s.steps - self.step) / max(1.0, s.decay_fraction * s.steps)
        return s.learning_rate * min(1.0, (self.step + 1) / max(1, s.warmup_steps), left)

    def train_on(self, activations: Tensor) -> dict[str, float]:
        """One step on a batch [B, D]; returns the figures of the batch before the step."""
        s = self.settings
        x = activations.float() * self.scale
        rate = self.rate()
        self.step += 1
        offsets, features, values = self._select(x)
        decoder = self.decoder.numpy()
        reconstruction = kernels.decode(offsets, features, values, decoder, self.decoder_bias.numpy())
        error = torch.from_numpy(reconstruction) - x
        unexplained = float(error.square().sum(1).mean()) / self.variance
        if not math.isfinite(unexplained):
            raise InputError(
                f"The loss is not a number at step {self.step}: the stream holds NaN or infinite "
                "activations. Read the model in fp32, or lower the learning rate."
            )
        slope = error * (2 / (len(x) * self.variance))
        value_slopes = kernels.dots(slope.numpy(), decoder, offsets, features)
        value_slopes[values <= 0] = 0
        extra, dead = self._auxiliary(x, error)
        rows = np.repeat(np.arange(len(x)), np.diff(offsets))
        kernels.update(
            (self.encoder.numpy(), self.encoder_bias.numpy(), decoder),
            _arrays(self.first),
            _arrays(self.second),
            (rows, features, values, value_slopes),
            kernels.by_feature(features, self.settings.features),
            x.numpy(),
            slope.numpy(),
            extra,
            (rate, *_ADAM_BETAS, _ADAM_EPSILON),
            self.step,
        )
        self._move_bias(slope.sum(0), rate)
        self.silent_for += len(x)
        self.silent_for[torch.from_numpy(features).long()] = 0
        if self.step == max(1, s.steps - round(s.decay_fraction * s.steps)):
            # From here on the weights hardly move: maxima and frequencies are measured on the rest of the
            # run.
            self.peak.zero_()
            self.fired.zero_()
        np.maximum.at(self.peak.numpy(), features, values)
        self.fired += torch.from_numpy(np.bincount(features, minlength=len(self.fired)))
        if len(values) and self.settings.architecture == "batchtopk":
            lowest = float(values[values > 0].min(initial=np.inf))
            if math.isfinite(lowest):
                keep = min(_THRESHOLD_DECAY, 1 - 1 / self.step)
                self.threshold = self.threshold * keep + lowest * (1 - keep)
        return {"fvu": unexplained, "l0": len(values) / len(x), "silent": float(dead), "rate": rate}

    def _move_bias(self, gradient: Tensor, rate: float) -> None:
        """Adam on the decoder bias."""
        b1, b2 = _ADAM_BETAS
        self.bias_first.mul_(b1).add_(gradient, alpha=1 - b1)
        self.bias_second.mul_(b2).add_(gradient.square(), alpha=1 - b2)
        mean, square = self.bias_first / (1 - b1**self.step), self.bias_second / (1 - b2**self.step)
        self.decoder_bias -= rate * mean / (square.sqrt() + _ADAM_EPSILON)

    def _auxiliary(self, x: Tensor, error: Tensor) -> tuple[tuple[np.ndarray, ...], int]:
        """Gradients that let silent features explain the error of the others (AuxK, Gao et al. 2024, A.2).

        Returns the place of each feature in the gradients (-1 for none) with those of encoder, bias and
        decoder, and how many features are silent.
        """
        n, width = self.settings.features, x.shape[1]
        place = np.full(n, -1, np.int32)
        assert self.settings.silent_tokens is not None
        silent_ones = (self.silent_for >= self.settings.silent_tokens).nonzero()[:, 0]
        count = len(silent_ones)
        if count == 0:
            none = np.zeros((0, width), np.float32)
            return (place, none, np.zeros(0, np.float32), none), 0
        place[silent_ones.numpy()] = np.arange(count, dtype=np.int32)
        x, aim = x[:_AUXILIARY_ROWS], -error[:_AUXILIARY_ROWS]
        encoder, decoder = self.encoder[silent_ones], self.decoder[silent_ones]
        values, chosen = (x @ encoder.T + self.encoder_bias[silent_ones]).topk(min(count, width // 2), dim=1)
        codes = torch.zeros(len(x), count).scatter_(1, chosen, values.clamp(min=0))
        miss = codes @ decoder - aim
        weight = 2 * _AUXILIARY_WEIGHT / float(aim.square().sum().clamp(min=1e-9))
        slope = torch.where(codes > 0, (miss @ decoder.T) * weight, 0)
        gradients = (slope.T @ x, slope.sum(0), (codes.T @ miss) * weight)
        return (place, *(g.contiguous().numpy() for g in gradients)), count

    @property
    def _measured_tokens(self) -> int:
        """Tokens that maxima and frequencies were measured on: those since the rate began to fall."""
        s = self.settings
        start = max(1, s.steps - round(s.decay_fraction * s.steps))
        return (self.step - start + 1 if self.step >= start else self.step) * s.batch_tokens

    def dictionary(self, site: Site, model_digest: str) -> Dictionary:
        """The dictionary as it stands, with the scale folded in."""
        shared: dict[str, Any] = {
            "site": site,
            "model_digest": model_digest,
            "encoder": self.encoder.clone(),
            "encoder_bias": self.encoder_bias / self.scale,
            "decoder": self.decoder.clone(),
            "decoder_bias": self.decoder_bias / self.scale,
            "maximum": self.peak / self.scale,
            "frequency": self.fired / max(1, self._measured_tokens),
        }
        if self.settings.architecture == "topk":
            return Dictionary(activation="topk", k=self.settings.k, **shared)
        bar = (self.threshold / self.scale).expand(self.settings.features).clone()
        return Dictionary(activation="jumprelu", threshold=bar, **shared)

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold."""
        names = ("encoder", "encoder_bias", "decoder")
        return {
            **{name: getattr(self, name) for name in names},
            **{f"first.{name}": t for name, t in zip(names, self.first, strict=True)},
            **{f"second.{name}": t for name, t in zip(names, self.second, strict=True)},
            "decoder_bias": self.decoder_bias,
            "bias_first": self.bias_first,
            "bias_second": self.bias_second,
            "silent_for": self.silent_for,
            "peak": self.peak,
            "fired": self.fired,
            "threshold": self.threshold,
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "step": torch.tensor(self.step),
        }

    @classmethod
    def restore(cls, settings: TrainSettings, state: dict[str, Tensor]) -> Trainer:
        """The trainer whose `state` this is."""
        self = cls.__new__(cls)
        self.settings = settings.resolved()
        names = ("encoder", "encoder_bias", "decoder")
        for name in (
            *names,
            "decoder_bias",
            "bias_first",
            "bias_second",
            "silent_for",
            "peak",
            "fired",
            "threshold",
        ):
            setattr(self, name, state[name])
        self.first = tuple(state[f"first.{name}"] for name in names)  # type: ignore[assignment]
        self.second = tuple(state[f"second.{name}"] for name in names)  # type: ignore[assignment]
        self.scale = float(state["scale"])
        self.variance = float(self.encoder.shape[1])
        self.step = int(state["step"])
        self._buffers = None
        return self


def train(
    stream: ActivationStream,
    settings: TrainSettings,
    run: RunFolder,
    *,
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
) -> Dictionary:
    """Train to the end, from the run's last checkpoint if it has one."""
    found = run.latest_checkpoint()
    if found is None:
        trainer, position = Trainer(settings, stream.sample(_SAMPLE_TOKENS)), (0, 0)
    else:
        trainer, position = _load_checkpoint(found[1], settings)
    steps = trainer.settings.steps
    saved = time.monotonic()
    batches = stream.batches(position) if trainer.step < steps else iter(())
    for position, batch in batches:
        figures = trainer.train_on(batch)
        done = trainer.step
        progress("train", done * settings.batch_tokens, steps * settings.batch_tokens, **figures)
        if done % 50 == 0 or done == steps:
            run.log({"step": done, "time": time.time(), **figures})
        if done == steps or time.monotonic() - saved > checkpoint_every_s:
            _save_checkpoint(run, trainer, position)
            saved = time.monotonic()
        if done == steps:
            break
    if trainer.step < steps:
        raise InputError(
            f"The text ran out after {trainer.step} of {steps} steps. "
            f"Give more text, or ask for fewer tokens (about {trainer.step * settings.batch_tokens:,})."
        )
    return trainer.dictionary(stream.site, stream.model_digest)


_SAMPLE_TOKENS = 16_384


def _save_checkpoint(run: RunFolder, trainer: Trainer, position: tuple[int, int]) -> None:
    with run.checkpoint(trainer.step) as folder:
        state = {**trainer.state(), "position": torch.tensor(position)}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "state.safetensors")


def _load_checkpoint(folder: Path, settings: TrainSettings) -> tuple[Trainer, tuple[int, int]]:
    state = load_file(folder / "state.safetensors")
    block, batch = state.pop("position").tolist()
    return Trainer.restore(settings, state), (block, batch)


def settings_as_json(settings: TrainSettings) -> dict[str, Any]:
    """Resolved settings as JSON values."""
    return asdict(settings.resolved())


def geometric_median(points: Tensor, *, iterations: int = 30) -> Tensor:
    """[D] the point of least summed distance to [T, D] (Weiszfeld's iteration); outliers hardly move it."""
    centre = points.mean(0)
    for _ in range(iterations):
        weights = 1 / (points - centre).norm(dim=1).clamp(min=1e-6)
        centre = (points * weights[:, None]).sum(0) / weights.sum()
    return centre


def _arrays(tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tensors[0].numpy(), tensors[1].numpy(), tensors[2].numpy()


def versions() -> dict[str, Any]:
    """The versions and the machine a run was made with."""
    import platform

    import numba
    import transformers

    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numba": numba.__version__,
        "threads": torch.get_num_threads(),
    }
