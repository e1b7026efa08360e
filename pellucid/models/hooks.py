"""Hooks at sites: read activations, edit them, stop early.

A hook sees the whole tensor of a site, [rows, positions, width]. Readers get it as it is; editors return a
new one. Hooks live as long as their `with` block and act in the thread that opened it alone, so that several
threads can read and edit one model at a time. Between blocks the model is the plain Hugging Face module, bit
for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models.families import HookPoint, hook_point

Editor = Callable[[Tensor], Tensor]
Reader = Callable[[Tensor], None]


class _DeepestSiteReached(BaseException):
    """Ends a forward pass whose remaining layers nobody asked for; never leaves this module."""


@contextmanager
def _attached(point: HookPoint, visit: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Call `visit` with the activation; a tensor it returns takes the activation's place."""
    owner = threading.get_ident()

    def on_output(_module: nn.Module, _args: Any, output: Any) -> Any:
        if threading.get_ident() != owner:
            return None
        tensor = output[0] if isinstance(output, tuple) else output
        changed = visit(tensor)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def on_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if threading.get_ident() != owner:
            return None
        if args:
            changed = visit(args[0])
            return None if changed is None else ((changed, *args[1:]), kwargs)
        changed = visit(kwargs["hidden_states"])
        return None if changed is None else (args, {**kwargs, "hidden_states": changed})

    handle = (
        point.module.register_forward_pre_hook(on_input, with_kwargs=True)
        if point.side == "input"
        else point.module.register_forward_hook(on_output)
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def edited(network: nn.Module, editors: Sequence[tuple[Site, Editor]]) -> Iterator[None]:
    """Apply editors at their sites, in order, in every forward pass within the block."""
    with ExitStack() as stack:
        for site, editor in editors:
            stack.enter_context(_attached(hook_point(network, site), editor))
        yield


@contextmanager
def watched(network: nn.Module, readers: Sequence[tuple[Site, Reader]]) -> Iterator[None]:
    """Hand the activation of each site to its reader, in every forward pass within the block.

    Readers attached inside an `edited` block see what the edits left.
    """
    with ExitStack() as stack:
        for site, reader in readers:

            def visit(tensor: Tensor, reader: Reader = reader) -> None:
                reader(tensor)

            stack.enter_context(_attached(hook_point(network, site), visit))
        yield


def capture(
    network: nn.Module, sites: Sequence[Site], token_ids: Tensor, *, attention_mask: Tensor | None = None
) -> Mapping[Site, Tensor]:
    """The activations of some sites for a batch of token rows; layers after the deepest site are not run.

    Args:
        network: a Hugging Face causal language model.
        sites: one or more sites.
        token_ids: [rows, positions], integer.
        attention_mask: [rows, positions], 1 for tokens and 0 for padding; none means no padding.

    Returns:
        For each site a tensor [rows, positions, width] in the dtype of the model.

    Raises:
        InputError: when no site is named, or the model has no such site.
    """
    if not sites:
        raise InputError("There is nothing to read: name at least one site, such as resid_post.9.")
    found: dict[Site, Tensor] = {}
    deepest = max(sites, key=lambda s: s.depth)

    def reader_of(site: Site) -> Reader:
        def read(tensor: Tensor) -> None:
            found[site] = tensor
            if site == deepest:
                raise _DeepestSiteReached

        return read

    readers = [(site, reader_of(site)) for site in sites]
    with torch.inference_mode(), watched(network, readers), suppress(_DeepestSiteReached):
        # The base model leaves out the unembedding, the largest product of a small model.
        network.base_model(input_ids=token_ids, attention_mask=attention_mask, use_cache=False)  # type: ignore[operator]
    return found
