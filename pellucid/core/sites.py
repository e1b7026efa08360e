"""Sites: the named places in a model where activations are read or edited.

A site is written `kind` or `kind.L`, with L the transformer layer, from 0. In the order of the forward pass:

    embed            what the token embedding gives
    resid_pre.L      the residual stream entering layer L
    attn_out.L       what attention of layer L adds to the stream
    mlp_in.L         what the MLP of layer L reads (after its norm)
    mlp_out.L        what the MLP of layer L adds to the stream
    resid_post.L     the residual stream leaving layer L
    resid_final      what the unembedding reads (after the final norm)

This module knows names only; `models.families` finds the modules behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.core.errors import InputError, UnknownNameError

LAYER_KINDS = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")
KINDS = ("embed", *LAYER_KINDS, "resid_final")


@dataclass(frozen=True)
class Site:
    """A place in a model: its kind, and its layer for the kinds that have one."""

    kind: str
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("kind of site", self.kind, KINDS)
        if (self.kind in LAYER_KINDS) != (self.layer is not None):
            need = "needs a layer, such as resid_post.9" if self.kind in LAYER_KINDS else "takes no layer"
            raise InputError(f"Site {self.kind!r} {need}; got layer {self.layer!r}.")
        if self.layer is not None and self.layer < 0:
            raise InputError(f"Layers count from 0; got {self.layer}.")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read `resid_post.9`; a `Site` passes through.

        Raises:
            InputError: when the text is not a site.
        """
        if isinstance(text, Site):
            return text
        kind, dot, layer = text.partition(".")
        if dot and not layer.isdecimal():
            raise InputError(f"A site is written like 'resid_post.9'; got {text!r}.")
        return cls(kind, int(layer) if dot else None)

    @property
    def depth(self) -> tuple[float, int]:
        """A key that sorts sites in the order in which the forward pass reaches them."""
        if self.kind == "embed":
            return (-1.0, 0)
        if self.layer is None:
            return (float("inf"), 0)
        return (float(self.layer), LAYER_KINDS.index(self.kind))

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}.{self.layer}"
