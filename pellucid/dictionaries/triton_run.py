"""How a kernel in Triton is started: on the accelerator where its arguments lie."""

from __future__ import annotations

from typing import Any

import torch


def run(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: int) -> None:
    """Start as many programs of a kernel as the grid has; sizes are constants of the compiler's."""
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **sizes)
