"""Training a dictionary on a stream of activations: one dense encode, everything after it sparse.

The stream gives batches [B, W] in a fixed order; the trainer gives a dictionary. Kill it at any moment: the
same call on the same run folder goes on from the last checkpoint to the very weights of a run that was not
interrupted, bit for bit.

What architectures differ in is in `architectures` and a file for each. What they share, with its sources in
docs/explanation/training.md: inputs scaled so that the mean squared distance from their centre is the width;
decoder bias started at the geometric median; encoder started as the decoder, scaled so that the first
reconstructions have the right length; unit decoder rows with the parallel part of the gradient removed before
Adam; an auxiliary loss that lets silent features explain the error (Gao et al. 2024); linear warm-up, and
linear decay at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import architectures, kernels
from pellucid.dictionaries.architectures import Decoded, Entries
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.kernels import Adam, Extra, Wiring
from pellucid.dictionaries.product import Product
from pellucid.dictionaries.settings import TrainSettings

_AUXILIARY_WEIGHT = 1 / 32  # Gao et al. 2024, A.2
_AUXILIARY_ROWS = 1024  # silent features are few: a quarter of the batch shows them the error well enough
_ADAM_BETAS = (0.9, 0.999)
_ADAM_EPSILON = 6.25e-10  # Gao et al. 2024: the default of 1e-8 is large beside these gradients
_START_TOKENS = 1024  # on which the first length and the first thresholds are set
_START_NUMBERS = 2**26  # at most so many pre-activations of them


Position = tuple[int, int]
"""Block and batch in a stream of activations."""


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

    def batches(self, position: Position) -> Iterator[tuple[Position, Tensor]]:
        """Batches [B, D] from a position on, each with the position after it."""


class Trainer:
    """The state of one training run."""

    def __init__(self, settings: TrainSettings, sample: Tensor, start: Dictionary | None = None) -> None:
        """Start from a sample of the stream, [tokens, D], or from a dictionary, with the scale of the sample.

        Raises:
            InputError: when the dictionary is of another size.
        """
        self.settings = settings.resolved()
        self.rule = architectures.of(self.settings)
        n, width = settings.features, sample.shape[1]
        sample = sample.float()
        centre = geometric_median(sample)
        # Scaled units: mean squared distance from the centre is D, so rates and penalties mean the same at
        # every site.
        self.scale = math.sqrt(width / float((sample - centre).square().sum(1).mean()))
        self.variance = float(width)
        if start is None:
            generator = torch.Generator().manual_seed(settings.seed)
            decoder = torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=1)
            centre = centre * self.scale
            self.encoder, self.decoder = decoder.clone(), decoder
            self.vectors = {"decoder_bias": centre.clone(), "encoder_bias": -(decoder @ centre)}
            self._start(sample[: max(64, min(_START_TOKENS, _START_NUMBERS // n))] * self.scale)
        else:
            self._take_up(start, width)
        self.moments = {
            name: (torch.zeros_like(t), torch.zeros_like(t))
            for name, t in {"encoder": self.encoder, "decoder": self.decoder, **self.vectors}.items()
        }
        self.silent_for = torch.zeros(n, dtype=torch.int64)
        self.peak, self.fired = torch.zeros(n), torch.zeros(n, dtype=torch.int64)
        self.step = 0
        self._set_up()

    def _set_up(self) -> None:
        """What is derived from the rest and not kept."""
        self._product = Product()
        self.wiring = Wiring.simple(self.settings.features, self.rule.prefixes)

    def _start(self, x: Tensor) -> None:
        """Scale the encoder so that first reconstructions have the best length; then begin the rule."""
        pre = x @ self.encoder.T + self.vectors["encoder_bias"]
        values, features = pre.topk(self.settings.k, dim=1)
        offsets = torch.arange(len(x) + 1) * self.settings.k
        codes = features.flatten().int(), values.clamp(min=0).flatten()
        shape = kernels.decode(offsets, *codes, self.decoder, torch.zeros(x.shape[1]))
        aim = x - self.vectors["decoder_bias"]
        factor = float((aim * shape).sum() / shape.square().sum().clamp(min=1e-9))
        self.encoder *= factor
        self.vectors["encoder_bias"] *= factor
        self.rule.vectors = self.vectors
        self.rule.start(pre * factor)

    def _take_up(self, start: Dictionary, width: int) -> None:
        """Begin from the weights of a dictionary."""
        if (start.num_features, start.width) != (self.settings.features, width):
            raise InputError(
                f"The dictionary to start from has {start.num_features} features of width {start.width}, and "
                f"{self.settings.features} of width {width} are to be trained. Ask for as many as it has."
            )
        self.encoder, self.decoder = start.encoder.clone(), start.decoder.clone()
        self.vectors = {
            "decoder_bias": start.decoder_bias * self.scale,
            "encoder_bias": start.encoder_bias * self.scale,
        }
        bars = torch.zeros(start.num_features) if start.threshold is None else start.threshold
        self.rule.vectors = self.vectors
        self.rule.take_up(bars * self.scale)

    def _select(self, x: Tensor) -> Entries:
        """The entries of a batch that count, with their values in fp32."""
        bias = self.vectors["encoder_bias"]
        counts, features = self.rule.select(self._product(x, self.encoder, bias - self.rule.bar), self.step)
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        pre = kernels.dots(x, self.encoder, offsets, features) + bias[features]
        rows = torch.repeat_interleave(torch.arange(len(x)), counts)
        return Entries(offsets, features, pre, self.rule.values(pre, features), rows)

    def rate(self) -> float:
        """The learning rate of the next step."""
        s = self.settings
        assert s.learning_rate is not None
        assert s.warmup_steps is not None
        left = (s.steps - self.step) / max(1.0, s.decay_fraction * s.steps)
        return s.learning_rate * min(1.0, (self.step + 1) / max(1, s.warmup_steps), left)

    def train_on(self, activations: Tensor) -> dict[str, float]:
        """One step on a batch [B, D]; returns the figures of the batch before the step."""
        x = activations.float() * self.scale
        self._check(float(x.sum()))
        rate, entries = self.rate(), self._select(x)
        bias = self.vectors["decoder_bias"]
        weight = 1 / (len(x) * self.variance)
        # Reconstructions by each prefix of the features: [G, B, D], the last by all of them.
        errors = kernels.decode(
            entries.offsets, entries.features, entries.values, self.decoder, bias, self.wiring
        )
        errors -= x
        unexplained = float(errors[-1].square().sum(dtype=torch.float64)) * weight
        self._check(unexplained)
        self.step += 1
        # The loss is the mean over the prefixes; a feature bears on its own prefix and all that hold it.
        slopes = errors * (2 * weight / len(errors))
        for inner in range(len(slopes) - 2, -1, -1):
            slopes[inner] += slopes[inner + 1]
        value_slopes = kernels.dots(
            slopes, self.decoder, entries.offsets, entries.features, self.wiring.group
        )
        pre_slopes, gradients = self.rule.slopes(
            entries, value_slopes, Decoded(x, self.decoder, bias, weight)
        )
        gradients["decoder_bias"] = slopes[0].sum(0)
        extra, by_bias = self._auxiliary(x, errors[-1])
        held = extra.place >= 0
        gradients["encoder_bias"][held] += by_bias[extra.place[held]]
        kernels.update(
            (self.encoder, self.decoder),
            self.moments["encoder"],
            self.moments["decoder"],
            (entries.rows, entries.features, entries.values, pre_slopes),
            x[None],
            slopes,
            self.wiring,
            extra,
            Adam(rate, *_ADAM_BETAS, _ADAM_EPSILON),
            self.step,
        )
        for name, gradient in gradients.items():
            self._move(name, gradient, rate)
        self.rule.learn(entries, self.step)
        self._count(entries)
        return {"fvu": unexplained, "l0": entries.l0, "silent": float(len(by_bias)), "rate": rate}

    def _check(self, number: float) -> None:
        """Refuse to go on with what is no number."""
        if not math.isfinite(number):
            raise InputError(
                f"The loss is not a number at step {self.step + 1}: the stream holds NaN or infinite "
                "activations. Read the model in fp32, or lower the learning rate."
            )

    def _move(self, name: str, gradient: Tensor, rate: float) -> None:
        """Adam on a vector."""
        b1, b2 = _ADAM_BETAS
        first, second = self.moments[name]
        first.mul_(b1).add_(gradient, alpha=1 - b1)
        second.mul_(b2).add_(gradient.square(), alpha=1 - b2)
        mean, square = first / (1 - b1**self.step), second / (1 - b2**self.step)
        self.vectors[name] -= rate * mean / (square.sqrt() + _ADAM_EPSILON)

    def _count(self, entries: Entries) -> None:
        """Maxima, frequencies, and for how long features have been silent."""
        active = entries.values > 0
        features, values = entries.features[active].long(), entries.values[active]
        self.silent_for += entries.num_rows
        self.silent_for[features] = 0
        if self.step == self.settings.first_step_of_decay:
            # From here on the weights hardly move: maxima and frequencies are measured on the rest of the
            # run.
            self.peak.zero_()
            self.fired.zero_()
        self.peak.scatter_reduce_(0, features, values, "amax")
        self.fired += torch.bincount(features, minlength=len(self.fired))

    def _auxiliary(self, x: Tensor, error: Tensor) -> tuple[Extra, Tensor]:
        """Gradients that let silent features explain the error of the others (AuxK, Gao et al. 2024, A.2).

        Returns those of encoder and decoder rows, and of the encoder bias of the M silent features.
        """
        n, width = self.settings.features, x.shape[1]
        place = torch.full((n,), -1, dtype=torch.int32)
        assert self.settings.silent_tokens is not None
        silent_ones = (self.silent_for >= self.settings.silent_tokens).nonzero()[:, 0]
        count = len(silent_ones)
        if count == 0:
            none = torch.zeros(0, width)
            return Extra(place, none, none), torch.zeros(0)
        place[silent_ones] = torch.arange(count, dtype=torch.int32)
        x, aim = x[:_AUXILIARY_ROWS], -error[:_AUXILIARY_ROWS]
        encoder, decoder = self.encoder[silent_ones], self.decoder[silent_ones]
        values, chosen = (x @ encoder.T + self.vectors["encoder_bias"][silent_ones]).topk(
            min(count, width // 2), dim=1
        )
        codes = torch.zeros(len(x), count).scatter_(1, chosen, values.clamp(min=0))
        miss = codes @ decoder - aim
        weight = 2 * _AUXILIARY_WEIGHT / float(aim.square().sum().clamp(min=1e-9))
        slope = torch.where(codes > 0, (miss @ decoder.T) * weight, 0)
        return Extra(place, slope.T @ x, (codes.T @ miss) * weight), slope.sum(0)

    @property
    def _measured_tokens(self) -> int:
        """Tokens that maxima and frequencies were measured on: those since the rate began to fall."""
        s = self.settings
        first = s.first_step_of_decay
        return (self.step - first + 1 if self.step >= first else self.step) * s.batch_tokens

    def dictionary(self, site: Site, model_digest: str) -> Dictionary:
        """The dictionary as it stands, with the scale folded in."""
        unit = torch.full((self.settings.features,), 1 / self.scale)
        shared: dict[str, Any] = {
            "site": site,
            "model_digest": model_digest,
            "encoder": self.encoder.clone(),
            "encoder_bias": self.vectors["encoder_bias"] * unit,
            "decoder": self.decoder.clone(),
            "decoder_bias": self.vectors["decoder_bias"] / self.scale,
            "maximum": self.peak * unit,
            "frequency": self.fired / max(1, self._measured_tokens),
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
                for name, value in {**self.rule.numbers, "scale": self.scale}.items()
            },
            "silent_for": self.silent_for,
            "peak": self.peak,
            "fired": self.fired,
            "step": torch.tensor(self.step),
        }

    @classmethod
    def restore(cls, settings: TrainSettings, state: dict[str, Tensor]) -> Trainer:
        """The trainer whose `state` this is."""
        self = cls.__new__(cls)
        self.settings = settings.resolved()
        self.rule = architectures.of(self.settings)
        for name in ("encoder", "decoder", "silent_for", "peak", "fired"):
            setattr(self, name, state[name])

        def under(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}

        self.vectors, seconds = under("vector."), under("second.")
        self.moments = {name: (first, seconds[name]) for name, first in under("first.").items()}
        numbers = {name: float(t) for name, t in under("number.").items()}
        self.scale = numbers.pop("scale")
        self.rule.vectors, self.rule.numbers = self.vectors, numbers
        self.variance = float(self.encoder.shape[1])
        self.step = int(state["step"])
        self._set_up()
        return self


@dataclass(frozen=True)
class Job:
    """One dictionary to train."""

    settings: TrainSettings
    """What is asked for."""
    run: RunFolder
    """Where its checkpoints are kept."""
    start: Dictionary | None = None
    """A dictionary of the same size to begin from, in place of random directions."""


def train(
    stream: ActivationStream,
    settings: TrainSettings,
    run: RunFolder,
    *,
    start: Dictionary | None = None,
    position: Position = (0, 0),
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
) -> tuple[Dictionary, Position]:
    """Train one dictionary to the end, from the run's last checkpoint if it has one; see `train_together`."""
    (dictionary,), position = train_together(
        stream,
        [Job(settings, run, start)],
        position=position,
        progress=progress,
        checkpoint_every_s=checkpoint_every_s,
    )
    return dictionary, position


def train_together(
    stream: ActivationStream,
    jobs: Sequence[Job],
    *,
    position: Position = (0, 0),
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
) -> tuple[list[Dictionary], Position]:
    """Train dictionaries to the end on one reading, each from its last checkpoint if it has one.

    Each comes out as it would alone. One whose checkpoint is older than another's catches up first.

    Args:
        stream: what to learn from.
        jobs: the dictionaries, of the same number of steps and tokens per step.
        position: where in the stream to begin.
        progress: is told of every step.
        checkpoint_every_s: seconds between checkpoints.

    Returns:
        The dictionaries, and the position in the stream after the last batch they saw.

    Raises:
        InputError: when jobs differ in steps, the stream ends early or holds what is no number, or a
            dictionary to start from is of another size.
    """
    lengths = {(job.settings.steps, job.settings.batch_tokens) for job in jobs}
    if len(lengths) != 1:
        raise InputError("Dictionaries that share a reading must train for the same tokens in equal batches.")
    ((steps, batch_tokens),) = lengths
    kept = [job.run.latest_checkpoint() for job in jobs]
    # Read once for all that begin.
    sample = stream.sample(_SAMPLE_TOKENS) if None in kept else torch.empty(0)
    begun = [
        (Trainer(job.settings, sample, job.start), position)
        if found is None
        else _load_checkpoint(found[1], job.settings)
        for job, found in zip(jobs, kept, strict=True)
    ]
    trainers = [trainer for trainer, _ in begun]
    done, position = min((trainer.step, at) for trainer, at in begun)
    batches = stream.batches(position) if done < steps else iter(())
    saved = time.monotonic()
    for position, batch in batches:
        done += 1
        due = done == steps or time.monotonic() - saved > checkpoint_every_s
        unexplained = []
        for job, trainer in zip(jobs, trainers, strict=True):
            if trainer.step >= done:
                continue
            figures = trainer.train_on(batch)
            unexplained.append(figures["fvu"])
            if done % 50 == 0 or done == steps:
                job.run.log({"step": done, "time": time.time(), **figures})
            if due:
                _save_checkpoint(job.run, trainer, position)
        told = figures if len(unexplained) == 1 else {"fvu": sum(unexplained) / len(unexplained)}
        progress("train", done * batch_tokens, steps * batch_tokens, **told)
        if due:
            saved = time.monotonic()
        if done == steps:
            break
    if done < steps:
        raise InputError(
            f"The text ran out after {done} of {steps} steps. "
            f"Give more text, or ask for fewer tokens (about {done * batch_tokens:,})."
        )
    return [t.dictionary(stream.site, stream.model_digest) for t in trainers], position


_SAMPLE_TOKENS = 16_384


def _save_checkpoint(run: RunFolder, trainer: Trainer, position: Position) -> None:
    with run.checkpoint(trainer.step) as folder:
        state = {**trainer.state(), "position": torch.tensor(position)}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "state.safetensors")


def _load_checkpoint(folder: Path, settings: TrainSettings) -> tuple[Trainer, Position]:
    state = load_file(folder / "state.safetensors")
    block, batch = state.pop("position").tolist()
    return Trainer.restore(settings, state), (block, batch)


def geometric_median(points: Tensor, *, iterations: int = 30) -> Tensor:
    """[D] the point of least summed distance to [T, D] (Weiszfeld's iteration); outliers hardly move it."""
    centre = points.mean(0)
    for _ in range(iterations):
        weights = 1 / (points - centre).norm(dim=1).clamp(min=1e-6)
        centre = (points * weights[:, None]).sum(0) / weights.sum()
    return centre


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
