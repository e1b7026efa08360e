"""A pretended accelerator, for machines without one: after `known()`, tensors go there with `.to("pretend")`.

What lies there is kept by the processor, and refuses to meet what does not, as on an accelerator: tensors of
two devices in one operation, and what numpy is given. As there, numbers without a shape may come from the
processor, and so may indices.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from pellucid.dictionaries import kernels

NAME = "pretend"
_OPS = torch.ops.aten
_INDEXED = (_OPS.index.Tensor, _OPS.index_put_.default, _OPS.index_put.default, _OPS._index_put_impl_.default)
_MADE = (
    _OPS.empty.memory_format,
    _OPS.empty_strided.default,
    _OPS.arange.default,
    _OPS.arange.start,
    _OPS.arange.start_step,
)
"""What makes tensors from nothing; the others of its kind are made of these."""
_REGISTERED = torch.library.Library("aten", "IMPL")


class Away(Tensor):
    """A tensor that says it lies on the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Away:
        # Never an inference tensor: a view of one that is none could not be one.
        with torch.inference_mode(False):
            made: Away = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=f"{NAME}:0",
            )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def tolist(self) -> Any:
        """As of any tensor; PyTorch refuses it of what is made in Python."""
        return self.inner.tolist()


def inner_of(value: Any) -> Any:
    """A tensor as the processor keeps it."""
    return value.inner if isinstance(value, Away) else value


@cache
def known() -> None:
    """Make the device known to PyTorch."""
    _setup_privateuseone_for_python_backend(NAME)
    for op in _MADE:
        _REGISTERED.impl(op.name().removeprefix("aten::"), _made_by(op), "PrivateUse1")
    _REGISTERED.impl("_copy_from", _copied, "PrivateUse1")
    sys.modules[f"pellucid.dictionaries.{NAME}"] = _OfTheProcessor(NAME)


def with_kernels(patch: pytest.MonkeyPatch, *, interpreted: bool = False) -> None:
    """Give it kernels: those of the processor, or, a hundred times slower, Triton's in its interpreter."""
    patch.setitem(kernels._MODULES, NAME, "triton_kernels" if interpreted else NAME)
    if interpreted:
        patch.setattr("pellucid.dictionaries.triton_run.run", _interpreted)


def _interpreted(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, **sizes: int
) -> None:
    assert all(isinstance(a, Away) for a in arguments if isinstance(a, Tensor)), kernel
    kernel[grid](*map(inner_of, arguments), **sizes)


class _OfTheProcessor(ModuleType):
    """The kernels of the processor, for tensors of the pretended device."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kernel = getattr(import_module("pellucid.dictionaries.compiled"), name)

        def run(*arguments: Any) -> Any:
            assert all(isinstance(a, Away) for a in tree_leaves(arguments) if isinstance(a, Tensor)), name
            found = kernels._tensors(kernel(*kernels._arrays(tree_map(inner_of, arguments))))
            return tree_map(lambda value: Away(value) if isinstance(value, Tensor) else value, found)

        return run


def _made_by(op: Any) -> Any:
    return lambda *args, **kwargs: _call(op, args, kwargs)


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    inner_of(target).copy_(inner_of(source))
    return target


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the processor what is asked of either device, and refuse what is asked of both."""
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    away = {id(t.inner): t for t in given if isinstance(t, Away)}
    indices = tree_leaves(args[1]) if func in _INDEXED and isinstance(args[0], Away) else []
    here = [t for t in given if not isinstance(t, Away) and t.ndim > 0 and all(t is not i for i in indices)]
    if away and here and func is not _OPS.copy_.default:
        raise RuntimeError(f"{func} of tensors on two devices")
    named = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.device)]
    goes_away = named[0].type == NAME if named else bool(away)

    def moved(value: Any) -> Any:
        return torch.device("cpu") if isinstance(value, torch.device) else inner_of(value)

    found = func(*tree_map(moved, args), **tree_map(moved, kwargs))
    same = {id(inner_of(t)) for t in given}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if goes_away != bool(away) and id(value) in same:  # another device has memory of its own
            value = value.clone()
        if not goes_away:
            return value
        return away[id(value)] if id(value) in away else Away(value)

    return tree_map(wrapped, found)
