"""What a piece of work asks of an accelerator, counted on the pretended device.

Operations, and those among them for whose outcome the processor must wait: a number, or how large a result
is. Views, which cost no work there, are left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.dictionaries import triton_run
from tests.pretended import Away

_WAITING = ("local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "unique", "histc")
_VIEWS = (
    "view",
    "slice",
    "select",
    "unsqueeze",
    "transpose",
    "permute",
    "split",
    "unbind",
    "expand",
    "detach",
)


class Counting(TorchDispatchMode):
    """Counts by line of pellucid while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._deaf = False

    def __enter__(self) -> Counting:
        self._run, triton_run.run = triton_run.run, self._start
        self._tolist = tolist = Away.tolist

        def listed(numbers: Away) -> Any:
            self.waits[f"{_line()} tolist"] += 1
            return tolist(numbers)

        Away.tolist = listed  # type: ignore[method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        triton_run.run, Away.tolist = self._run, self._tolist  # type: ignore[method-assign]

    def _start(self, kernel: Any, *arguments: Any, **sizes: Any) -> None:
        """A kernel is one operation, whatever its interpreter does."""
        self.operations[f"{_line()} {kernel.fn.__name__}"] += 1
        self._deaf = True
        self._run(kernel, *arguments, **sizes)
        self._deaf = False

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.strip("_")
        if not self._deaf and not name.startswith(_VIEWS) and name != "t":
            self.operations[f"{_line()} {name}"] += 1
            self.waits[f"{_line()} {name}"] += _waits(name, args, kwargs or {}, found)
        return found


def _waits(name: str, args: Any, kwargs: dict[str, Any], found: Any) -> bool:
    if not args or not isinstance(args[0], Tensor) or args[0].device.type == "cpu":
        return False
    if name in ("index", "index_put"):
        return any(i is not None and not i.dtype.is_signed for i in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name == "segment_reduce":  # it looks whether the lengths add up
        return kwargs.get("lengths") is not None and not kwargs.get("unsafe", False)
    if name == "to_copy":
        return bool(found.device.type == "cpu")
    return name.startswith(_WAITING) and "static" not in name


def _line() -> str:
    """The line of pellucid that asked."""
    frame: Any = sys._getframe(1)
    while frame is not None and "pellucid/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
