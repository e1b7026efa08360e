"""Tiles: the innermost loops of products, written in LLVM's instructions for numba.

numba's own loops reach a third of the speed: a tile keeps several rows times several vectors of outputs in
registers while it goes once over the inputs. Every output of every row is summed by itself, in the order of
the inputs, so that its bits depend neither on the other rows nor on how all are cut into tiles.

Three kinds of arithmetic:

    `widened`   weights float32, or bfloat16 that is widened in the register; fused multiply and add in
                float32; on every processor
    `halves`    the tile unit of Intel's AMX (Intel SDM, volume 1, chapter 18): weights bfloat16, and each
                activation as the sum of two bfloat16 numbers, which leaves an error of 2^-17 of it; eight
                times as many products at a time
    `bytewise`  the same unit, for what need not be exact: weights int8, and each activation as the sum of two
                int8 numbers; half the bytes, and twice as many products at a time; sums are whole numbers

Weights lie packed, see `packed`: 16 outputs side by side, and of each two inputs, which is what the first two
read; or `packed_bytes`.
"""

from __future__ import annotations

import ctypes
import math
import platform
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from torch import Tensor

LANES = 16
"""Outputs in a vector."""
DEPTH = 32
"""Inputs that the tile unit takes at a time; packed weights are padded to it."""
PART = 2 * DEPTH * LANES
"""Bytes of packed bfloat16 weights for so many inputs of a vector of outputs."""
BYTES = 2 * DEPTH
"""Inputs that the tile unit takes at a time where they are bytes; then packed weights are padded to it."""
WIDEST = 2**31 // 127**2
"""Inputs of which the products as bytes can be summed in 32 bits."""
_AHEAD = 4096
"""Bytes by which weights are asked for before they are read."""

_NONE = ir.VoidType()
_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES = _I8.as_pointer()
_FLOATS, _WORDS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_A, _B = 4, 6
"""The first tile register of activations, and of weights; those before hold sums."""


def packed(weights: np.ndarray) -> np.ndarray:
    """Weights [N, K], float32 or bfloat16 as bits, as tiles read them.

    Padded with zeros to whole vectors of outputs and whole parts of inputs: [N / 16, K / 2, 16, 2] of
    bfloat16, and [N / 16, K / 2, 2, 16] of float32.
    """
    outputs, inputs = weights.shape
    full = np.zeros((padded(outputs, 2 * LANES), padded(inputs)), weights.dtype)
    full[:outputs, :inputs] = weights
    cut = full.reshape(-1, LANES, full.shape[1] // 2, 2)
    return _laid(cut.transpose((0, 2, 3, 1) if weights.dtype == np.float32 else (0, 2, 1, 3)))


def packed_half(weights: Tensor) -> np.ndarray:
    """Weights [N, K] rounded to bfloat16 and packed; the dtype says how they are to be multiplied here."""
    bits = weights.detach().bfloat16().contiguous().view(torch.int16).numpy()
    return packed(bits if has_tile_unit() else bits.view(np.uint16))


def packed_bytes(weights: Tensor) -> np.ndarray:
    """Weights [N, K], whole numbers of -127 to 127 in any dtype, as `bytewise` reads them.

    [N / 32, K / 64, 2, 16, 16, 4] int8: of two vectors of 16 outputs, 64 inputs by fours. Padded with zeros.
    """
    outputs, inputs = weights.shape
    full = np.zeros((padded(outputs, 2 * LANES), padded(inputs, BYTES)), np.int8)
    full[:outputs, :inputs] = weights.to(torch.int8).numpy()
    cut = full.reshape(-1, 2, LANES, full.shape[1] // BYTES, BYTES // 4, 4)
    return _laid(cut.transpose(0, 3, 1, 4, 2, 5))


def _laid(ordered: np.ndarray) -> np.ndarray:
    """The same numbers, one after the other from a line of the cache on."""
    found = aligned(ordered.shape, ordered.dtype)
    found[:] = ordered
    return found


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike, *, zeros: bool = False) -> np.ndarray:
    """An array that begins where a line of the cache does, not set unless it shall hold zeros.

    Vectors and the tile unit read by lines: what lies across two of them takes up to three times as long.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = (np.zeros if zeros else np.empty)(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def padded(size: int, to: int = DEPTH) -> int:
    """The size, up to a whole number of parts."""
    return -(-size // to) * to


def _splat(b: ir.IRBuilder, value: Any) -> Any:
    empty = ir.Constant(_FLOATS, ir.Undefined)
    first = b.insert_element(empty, value, _I32(0))
    return b.shuffle_vector(first, empty, ir.Constant(_WORDS, [0] * LANES))


def _at(b: ir.IRBuilder, address: Any, kind: Any) -> Any:
    return b.inttoptr(address, kind.as_pointer())


def _function(b: ir.IRBuilder, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(result, arguments), name)


def _loop(b: ir.IRBuilder, times: Any) -> tuple[Any, Any, Any]:
    """Begin a loop of at least one turn: its number, where it began, and what comes after it."""
    before, body, after = b.block, b.append_basic_block("tile"), b.append_basic_block("tiled")
    b.branch(body)
    b.position_at_end(body)
    number = b.phi(_I64)
    number.add_incoming(_I64(0), before)
    return number, before, after


def _again(b: ir.IRBuilder, number: Any, times: Any, after: Any) -> None:
    following = b.add(number, _I64(1))
    body = b.block
    number.add_incoming(following, body)
    b.cbranch(b.icmp_signed("<", following, times), body, after)
    b.position_at_end(after)


def widened(rows: int, vectors: int, half: bool) -> Any:
    """A tile of `rows` × 16 · `vectors` outputs: `tile(x, x_step, weights, pairs, block, out, out_step)`.

    Addresses and steps are in bytes; `pairs` of inputs are summed, and `block` is from one vector of outputs
    to the next in the packed weights, which are bfloat16 if `half`.
    """
    bytes_per_pair = 2 * LANES * (2 if half else 4)

    @intrinsic
    def tile(
        ctx: Any, x: Any, x_step: Any, weights: Any, pairs: Any, block: Any, out: Any, out_step: Any
    ) -> Any:
        def generate(context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            x, x_step, weights, pairs, block, out, out_step = arguments
            fma = _function(b, "llvm.fma.v16f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
            prefetch = _function(b, "llvm.prefetch.p0", _NONE, _BYTES, _I32, _I32, _I32)
            inputs = [_at(b, b.add(x, b.mul(x_step, _I64(r))), _F32) for r in range(rows)]
            number, before, after = _loop(b, pairs)
            sums = []
            for _ in range(rows * vectors):
                sums.append(b.phi(_FLOATS))
                sums[-1].add_incoming(ir.Constant(_FLOATS, [0.0] * LANES), before)
            first, second = [], []
            for v in range(vectors):
                at = b.add(b.add(weights, b.mul(number, _I64(bytes_per_pair))), b.mul(block, _I64(v)))
                b.call(prefetch, [_at(b, b.add(at, _I64(_AHEAD)), _I8), _I32(0), _I32(3), _I32(1)])
                if half:
                    both = b.load(_at(b, at, _WORDS), align=4)
                    first.append(b.bitcast(b.shl(both, ir.Constant(_WORDS, [16] * LANES)), _FLOATS))
                    high = ir.Constant(_WORDS, [0xFFFF0000] * LANES)
                    second.append(b.bitcast(b.and_(both, high), _FLOATS))
                else:
                    first.append(b.load(_at(b, at, _FLOATS), align=4))
                    second.append(b.load(_at(b, b.add(at, _I64(4 * LANES)), _FLOATS), align=4))
            new = list(sums)
            for offset, column in enumerate((first, second)):
                k = b.add(b.mul(number, _I64(2)), _I64(offset))
                for r in range(rows):
                    value = _splat(b, b.load(b.gep(inputs[r], [k])))
                    for v in range(vectors):
                        new[r * vectors + v] = b.call(fma, [value, column[v], new[r * vectors + v]])
            for phi, value in zip(sums, new, strict=True):
                phi.add_incoming(value, b.block)
            _again(b, number, pairs, after)
            for r in range(rows):
                for v in range(vectors):
                    at = b.add(b.add(out, b.mul(out_step, _I64(r))), _I64(4 * LANES * v))
                    b.store(new[r * vectors + v], _at(b, at, _FLOATS), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), generate

    return tile


def halves(blocks: int, numbers: int = 2) -> Any:
    """A tile of 16 · `blocks` rows × 32 outputs: `tile(x, low, step, weights, depths, block, out, out_step)`.

    Activations lie as `thin.Work.split` says: `low` is from the high half of one to its low half, `step`
    from one part of the inputs to the next. Of the last 16 rows there may be fewer: as many as were
    configured. With `numbers` 1 there are no low halves.
    """

    @intrinsic
    def tile(
        ctx: Any, x: Any, low: Any, step: Any, weights: Any, depths: Any, block: Any, out: Any, out_step: Any
    ) -> Any:
        def generate(context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            x, low, step, weights, depths, block, out, out_step = arguments
            load = _function(b, "llvm.x86.tileloadd64", _NONE, _I8, _BYTES, _I64)
            store = _function(b, "llvm.x86.tilestored64", _NONE, _I8, _BYTES, _I64)
            zero = _function(b, "llvm.x86.tilezero", _NONE, _I8)
            multiply = _function(b, "llvm.x86.tdpbf16ps", _NONE, _I8, _I8, _I8)
            prefetch = _function(b, "llvm.prefetch.p0", _NONE, _BYTES, _I32, _I32, _I32)
            for number in range(2 * blocks):
                b.call(zero, [_I8(number)])
            number, _, after = _loop(b, depths)
            for n in range(2):
                at = b.add(b.add(weights, b.mul(number, _I64(PART))), b.mul(block, _I64(n)))
                for line in range(0, PART, 64):
                    ahead = _at(b, b.add(at, _I64(_AHEAD + line)), _I8)
                    b.call(prefetch, [ahead, _I32(0), _I32(3), _I32(1)])
                b.call(load, [_I8(_B + n), _at(b, at, _I8), _I64(2 * DEPTH)])
            for part in range(numbers):
                for m in range(blocks):
                    at = b.add(b.add(x, b.mul(number, step)), _I64(16 * 2 * DEPTH * m))
                    at = b.add(at, low) if part else at
                    a = (part + m) % 2 if blocks == 1 else m
                    b.call(load, [_I8(_A + a), _at(b, at, _I8), _I64(2 * DEPTH)])
                    for n in range(2):
                        b.call(multiply, [_I8(2 * m + n), _I8(_A + a), _I8(_B + n)])
            _again(b, number, depths, after)
            for m in range(blocks):
                for n in range(2):
                    at = b.add(b.add(out, b.mul(out_step, _I64(16 * m))), _I64(4 * LANES * n))
                    b.call(store, [_I8(2 * m + n), _at(b, at, _I8), out_step])
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return tile


@intrinsic
def bytewise(ctx: Any, x: Any, weights: Any, depths: Any, out: Any) -> Any:
    """A tile of 16 rows × 32 outputs, by addresses (TDPBSSD, Intel SDM, volume 2).

    x [depths, 2, 16, 64] int8: 64 inputs of 16 rows, each as two numbers; weights [depths, 2, 16, 16, 4], see
    `packed_bytes`; out [16, 2, 32] int32: the sums of a row's first numbers, and of its second.
    """

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        x, weights, depths, out = arguments
        load = _function(b, "llvm.x86.tileloadd64", _NONE, _I8, _BYTES, _I64)
        store = _function(b, "llvm.x86.tilestored64", _NONE, _I8, _BYTES, _I64)
        zero = _function(b, "llvm.x86.tilezero", _NONE, _I8)
        multiply = _function(b, "llvm.x86.tdpbssd", _NONE, _I8, _I8, _I8)
        prefetch = _function(b, "llvm.prefetch.p0", _NONE, _BYTES, _I32, _I32, _I32)
        for number in range(4):
            b.call(zero, [_I8(number)])
        number, _, after = _loop(b, depths)
        inputs, columns = (b.add(start, b.mul(number, _I64(2 * PART))) for start in (x, weights))
        for line in range(0, 2 * PART, 64):
            ahead = _at(b, b.add(columns, _I64(_AHEAD + line)), _I8)
            b.call(prefetch, [ahead, _I32(0), _I32(3), _I32(1)])
        for n in range(2):
            b.call(load, [_I8(_B + n), _at(b, b.add(columns, _I64(PART * n)), _I8), _I64(BYTES)])
        # A multiplication takes 52 cycles, and the next may begin after 16: hence four sums in turn.
        for part in range(2):
            b.call(load, [_I8(_A + part), _at(b, b.add(inputs, _I64(PART * part)), _I8), _I64(BYTES)])
            for n in range(2):
                b.call(multiply, [_I8(2 * part + n), _I8(_A + part), _I8(_B + n)])
        _again(b, number, depths, after)
        for vector in range(4):
            at = _at(b, b.add(out, _I64(4 * LANES * vector)), _I8)
            b.call(store, [_I8(vector), at, _I64(4 * 4 * LANES)])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@intrinsic
def address(ctx: Any, array: Any) -> Any:
    """Where an array begins."""

    def generate(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, b, arguments[0])
        return b.ptrtoint(found.data, _I64)

    return types.intp(array), generate


@intrinsic
def counted(ctx: Any, address: Any) -> Any:
    """Add one to the number at an address, all at once; what it was."""

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return b.atomic_rmw("add", _at(b, arguments[0], _I64), _I64(1), "seq_cst")

    return types.intp(types.intp), generate


@intrinsic
def looked(ctx: Any, address: Any) -> Any:
    """The number at an address as other threads left it."""

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return b.load_atomic(_at(b, arguments[0], _I64), "acquire", 8)

    return types.intp(types.intp), generate


@intrinsic
def configured(ctx: Any, address: Any) -> Any:
    """Set the tile unit of this thread up by one of `CONFIGURATIONS`."""

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        b.call(_function(b, "llvm.x86.ldtilecfg", _NONE, _BYTES), [_at(b, arguments[0], _I8)])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def released(ctx: Any) -> Any:
    """Give the tile unit of this thread back."""

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, _arguments: Any) -> Any:
        b.call(_function(b, "llvm.x86.tilerelease", _NONE), [])
        return context.get_dummy_value()

    return types.void(), generate


def _configuration(rows: int) -> np.ndarray:
    """For `rows` of activations (Intel SDM, volume 1, table 18-1): palette 1, 64 bytes a row."""
    found = np.zeros(64, np.uint8)
    found[0] = 1
    found[16:32].view(np.uint16)[:] = 64
    found[48:56] = [rows] * _B + [16] * 2
    return found


CONFIGURATIONS = np.stack([_configuration(max(rows, 1)) for rows in range(17)])
"""[17, 64] bytes: for so many rows."""


@cache
def has_tile_unit(kind: Literal["bf16", "int8"] = "bf16") -> bool:
    """Whether this processor has AMX for numbers of a kind, and Linux lets this process use it.

    Not where numba is told to compile for another processor than this.
    """
    if (
        platform.system() != "Linux"
        or platform.machine() != "x86_64"
        or config.CPU_NAME
        or config.CPU_FEATURES
    ):
        return False
    features = binding.get_host_cpu_features()
    if not (features.get("amx-tile") and features.get(f"amx-{kind}")):
        return False
    # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), Documentation/arch/x86/xstate.rst of Linux.
    return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)


def _wide() -> bool:
    """Whether there are 32 registers of 16 lanes."""
    return bool(not config.CPU_NAME and binding.get_host_cpu_features().get("avx512f"))


ROWS, VECTORS = (8, 3) if _wide() else (4, 1)
"""The largest tile whose sums stay in registers."""
