"""What one step of training asks of an accelerator: `asking_child.py [--lines]`.

On the pretended device of `device_child`, it counts the operations that are asked for and those among them
for whose outcome the processor must wait, and prints both as JSON for each kind of dictionary: of a step on
which no feature is silent, and of one on which some are. With --lines, the lines of pellucid that asked.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from typing import Any, get_args

import torch
from device_child import ELSEWHERE, SETTINGS, SITES, Away, Stream, pretend
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.dictionaries import triton_run
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.dictionaries.trainer import Trainer

_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "unique", "histc")
_VIEWS = ("view", "slice", "select", "unsqueeze", "transpose", "t", "split", "expand", "detach", "alias")


class Counting(TorchDispatchMode):
    """Counts by line of pellucid what passes; over a mode that pretends a device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.deaf = False

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.deaf:
            return func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not name.strip("_").startswith(_VIEWS):
            self.operations[_line() + f" {name}"] += 1
        found = func(*args, **(kwargs or {}))
        if _waits(func, name, args, kwargs or {}, found):
            self.waits[_line() + f" {name}"] += 1
        return found


def _waits(func: Any, name: str, args: Any, kwargs: dict[str, Any], found: Any) -> bool:
    """Whether the size or the value of what is found must be known on the processor."""
    if not args or not isinstance(args[0], Away):
        return False
    if name in ("index", "index_put", "index_put_"):
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name == "segment_reduce":
        return kwargs.get("lengths") is not None and not kwargs.get("unsafe", False)
    if name == "_to_copy":
        return not isinstance(found, Away)
    return name.strip("_").startswith(tuple(n.strip("_") for n in _WAITING)) and "static" not in name


def _line() -> str:
    """The line of pellucid that asked."""
    frame: Any = sys._getframe(1)
    while frame is not None and "pellucid/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    return f"{frame.f_code.co_filename.rpartition('pellucid/')[2]}:{frame.f_lineno}"


def asked(settings: TrainSettings, ports: Ports, *, silent: bool) -> Counting:
    """What the third step asks for."""
    stream = Stream("pretend", len(ports.sites))
    trainer = Trainer(replace(settings, silent_tokens=10**9), stream.sample(16), ports)
    for seed in range(2):
        trainer.train_on(stream.draw(SETTINGS.batch_tokens, seed))
    if silent:
        trainer.silent_for[2:5] = 10**9
    batch = stream.draw(SETTINGS.batch_tokens, 3)
    counting, run = Counting(), triton_run.run

    def noted(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: int) -> None:
        counting.operations[_line() + f" {kernel.fn.__name__}"] += 1
        counting.deaf = True  # what the interpreter does is no operation of an accelerator
        run(kernel, grid, *arguments, **sizes)
        counting.deaf = False

    triton_run.run = noted
    with counting:
        trainer.train_on(batch)
    triton_run.run = run
    return counting


def main() -> None:
    """Print what was found."""
    torch.set_num_threads(1)
    kinds = [(a, replace(SETTINGS, architecture=a), Ports.of(SITES[0])) for a in get_args(Architecture)]
    found = {}
    with pretend():
        for name, settings, ports in [*kinds, *ELSEWHERE]:
            for silent in (False, True):
                counting = asked(settings, ports, silent=silent)
                found[f"{name}, {'some' if silent else 'none'} silent"] = {
                    "operations": counting.operations.total(),
                    "waits": counting.waits.total(),
                }
                if "--lines" in sys.argv:
                    print(name, silent, counting.operations.total(), counting.waits.total())
                    for kind in (counting.waits, counting.operations):
                        print(*(f"  {n:3} {line}" for line, n in kind.most_common()), sep="\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
