"""Whole training runs away from the processor: `device_child.py DEVICE FOLDER`.

DEVICE is an accelerator, or `pretend` (see `tests.pretended`). Kernels are then interpreted.

For each architecture, and for dictionaries of several sites, it prints as JSON what was told of each step on
the processor and on the device, there in two sittings, and how far the decoders are apart in the end; of an
accelerator, whether one sitting ends in the same bits as two; of the pretended device, how many operations
each step asked for, and the lines that waited for one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.dictionaries.trainer import Trainer
from pellucid.dictionaries.training import train
from tests import pretended
from tests.dictionaries.counting import Counting

WIDTH, STEPS = 16, 2
SETTINGS = TrainSettings(
    features=12, k=3, tokens=5 * STEPS, batch_tokens=5, silent_tokens=5, learning_rate=3e-3
)
SITES = [Site("resid_post", layer) for layer in range(4)]
ELSEWHERE: list[tuple[str, TrainSettings, Ports]] = [
    ("transcoder", replace(SETTINGS, skip=True), Ports((SITES[0],), (SITES[1],))),
    ("visits", replace(SETTINGS, features=16, visits=2), Ports.of(SITES[0])),
    ("cross-layer transcoder", SETTINGS, Ports((SITES[0], SITES[1]), (SITES[2], SITES[3]))),
]


@contextmanager
def counted() -> Iterator[list[Counting]]:
    """What each step asks for."""
    asked: list[Counting] = []
    step = Trainer.train_on

    def counting(trainer: Trainer, activations: Tensor) -> dict[str, float]:
        with Counting() as of_step:
            asked.append(of_step)
            return step(trainer, activations)

    Trainer.train_on = counting  # type: ignore[method-assign]
    yield asked
    Trainer.train_on = step  # type: ignore[method-assign]


@dataclass
class Stream:
    """Activations of a few sites, that lie on a device from the first."""

    device: str
    sites: int
    num_batches: int = STEPS
    site: Site = SITES[0]
    model_digest: str = "sha256:0"

    def draw(self, tokens: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        codes = torch.rand(tokens, 12, generator=generator) * (
            torch.rand(tokens, 12, generator=generator) < 0.25
        )
        fixed = torch.Generator().manual_seed(11)
        mixing = torch.randn(12, self.sites * WIDTH, generator=fixed)
        noise = 0.3 * torch.randn(tokens, self.sites * WIDTH, generator=generator)
        return (codes @ mixing + noise + torch.randn(self.sites * WIDTH, generator=fixed)).to(self.device)

    def sample(self, tokens: int) -> Tensor:
        return self.draw(min(tokens, 16), 10**6)

    def batches(self, position: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Tensor]]:
        for number in range(position[1], self.num_batches):
            yield (0, number + 1), self.draw(SETTINGS.batch_tokens, number)


def trained(
    folder: Path,
    settings: TrainSettings,
    ports: Ports,
    stream: Stream,
    told: Callable[[dict[str, float]], None],
) -> Dictionary:
    """Train in a run folder to the end of the stream, with a checkpoint at every step."""

    def listen(_stage: str, _done: float, _total: float, /, **figures: float) -> None:
        told(figures)

    with RunFolder.open(folder, identity={}) as run:
        d, _ = train(stream, settings, run, ports=ports, progress=listen, checkpoint_every_s=0)
    return d


def compare(name: str, settings: TrainSettings, ports: Ports, device: str, folder: Path) -> dict[str, Any]:
    """One kind of dictionary on the processor, and on the device in two sittings."""
    told: dict[str, list[dict[str, float]]] = {"cpu": [], device: []}
    sites = len(ports.sites)
    expected = trained(folder / "cpu", settings, ports, Stream("cpu", sites), told["cpu"].append)
    with counted() if device == pretended.NAME else nullcontext([]) as asked:
        with suppress(InputError):  # the stream runs out, which stands for a kill
            trained(folder / device, settings, ports, Stream(device, sites, 1), told[device].append)
        d = trained(folder / device, settings, ports, Stream(device, sites), told[device].append)
    x = Stream("cpu", sites).draw(40, 5)[:, : d.width]
    rebuilt, codes = d.reconstruct(x)
    assert {t.device.type for t in (d.encoder, codes.values, rebuilt)} == {device}
    files.save(d, folder / "saved", card={"architecture": name}, fixture=x.to(device))
    kept, _ = files.load(folder / "saved")
    off = (kept.decoder - expected.decoder).abs().amax(1)
    found = {
        "told": list(zip(*told.values(), strict=True)),
        "off": float(off.median()),
        "operations": [step.operations.total() for step in asked],
        "waits": [list(step.waits.elements()) for step in asked],
    }
    if device != pretended.NAME:
        whole = trained(folder / "whole", settings, ports, Stream(device, sites), [].append)
        found["same bits"] = torch.equal(whole.encoder, d.encoder) and torch.equal(whole.decoder, d.decoder)
    return found


def main() -> None:
    """Print what was found."""
    device, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    of_one = [(a, replace(SETTINGS, architecture=a), Ports.of(SITES[0])) for a in get_args(Architecture)]
    if device == pretended.NAME:
        pretended.known()
        pretended.with_kernels(pytest.MonkeyPatch(), interpreted=True)
    found = {
        name: compare(name, settings, ports, device, folder / name)
        for name, settings, ports in chain(of_one, ELSEWHERE)
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
