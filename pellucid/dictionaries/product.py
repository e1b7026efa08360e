"""The one dense product of an encoding, x @ encoder.T + bias, to select by: [B, N] in bf16.

It is computed in bf16 where the processor or the accelerator multiplies bf16, and elsewhere in fp32 and then
rounded: a processor without such instructions is seven times slower in bf16 (benchmarks/LOG.md). Either way
what is selected is exact only to bf16; its value is computed again in fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.models.model import has_bf16_arithmetic

_ROWS_AT_ONCE = 256
"""Rows whose fp32 product is rounded while it is still in the cache."""


class Product:
    """The product with an encoder that changes from call to call; keeps its buffers.

    Fresh pages would cost a sixth of the time.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, x: Tensor, encoder: Tensor, bias: Tensor) -> Tensor:
        """[B, N], overwritten by the next call.

        Args:
            x: [R, B, D]; each part is read by an R-th of the features.
            encoder: [N, D].
            bias: [N].
        """
        parts, rows, _ = x.shape
        out = self._buffer("out", rows, len(encoder), torch.bfloat16, x.device)
        if parts == 1 and x.device.type != "cpu":
            # Accelerators add a bias to a whole product as they write it.
            added = bias.bfloat16()
            return torch.addmm(added, x[0].bfloat16(), encoder.bfloat16().T, out=out)
        multiply = self._rounded if x.device.type == "cpu" and not has_bf16_arithmetic() else self._fast
        share = len(encoder) // parts
        for r in range(parts):
            mine = slice(r * share, (r + 1) * share)
            multiply(x[r], encoder[mine], bias[mine], out[:, mine])
        return out

    def _fast(self, x: Tensor, encoder: Tensor, bias: Tensor, out: Tensor) -> None:
        inputs, weights = (
            self._buffer(name, len(t), _padded(x.shape[1]), torch.bfloat16, x.device)
            for name, t in (("inputs", x), ("weights", encoder))
        )
        _fill(inputs, x, 1)
        _fill(weights, encoder, bias)
        torch.mm(inputs, weights.T, out=out)

    def _rounded(self, x: Tensor, encoder: Tensor, bias: Tensor, out: Tensor) -> None:
        exact = self._buffer("exact", min(_ROWS_AT_ONCE, len(x)), len(encoder), torch.float32, x.device)
        for at in range(0, len(x), _ROWS_AT_ONCE):
            part = x[at : at + _ROWS_AT_ONCE]
            out[at : at + _ROWS_AT_ONCE] = torch.addmm(bias, part, encoder.T, out=exact[: len(part)])

    def _buffer(self, name: str, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        found = self._buffers.get(name)
        if found is None or found.shape != (rows, columns) or found.device != device:
            found = torch.zeros(rows, columns, dtype=dtype, device=device)
            self._buffers[name] = found
        return found


def with_bias(x: Tensor, encoder: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Activations [B, D'] and encoder rows [N, D'] in bf16, whose product has the bias [N] in it."""
    inputs, weights = (t.new_zeros(len(t), _padded(x.shape[1]), dtype=torch.bfloat16) for t in (x, encoder))
    _fill(inputs, x, 1)
    _fill(weights, encoder, bias)
    return inputs, weights


def _padded(width: int) -> int:
    """D': the bias rides as one more column and needs no pass of its own; padded to a full register."""
    return -(-(width + 1) // 32) * 32


def _fill(target: Tensor, rows: Tensor, last: Tensor | int) -> None:
    width = rows.shape[1]
    target[:, :width], target[:, width] = rows, last
