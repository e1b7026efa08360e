"""Numbers on their way from an accelerator to the processor, which asks for further work meanwhile."""

from __future__ import annotations

import torch
from torch import Tensor


class Arriving:
    """A few numbers that are being computed; on a processor they are there at once."""

    def __init__(self, *numbers: Tensor) -> None:
        """Send for numbers, each a tensor without axes."""
        there = torch.stack([number.double() for number in numbers])
        self._here = there.to("cpu", non_blocking=True)
        self._sent: torch.cuda.Event | None = None
        if there.is_cuda:
            self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._sent.record(torch.cuda.current_stream(there.device))

    def read(self) -> list[float]:
        """The numbers, waited for until what was asked for before them is done, and no longer."""
        if self._sent is not None:
            self._sent.synchronize()
        found: list[float] = self._here.tolist()
        return found
