"""What one text is to be, and what is told of it while it is written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from torch import Tensor

from pellucid.core.errors import InputError, PellucidError
from pellucid.core.sites import Site
from pellucid.models.generation import Editor, Sampling, Watcher
from pellucid.models.model import Model

C = TypeVar("C")


@dataclass(frozen=True)
class Request(Generic[C]):
    """What one text is to be."""

    prompt: Sequence[int]
    """Token ids."""
    sampling: Sampling = field(default_factory=Sampling)
    watch: Sequence[Watcher[C]] = ()
    """What reads along; codes come with each token."""
    editors: Sequence[tuple[Site, Editor]] = ()
    """What edits its activations, in order; each sees [1, positions, D]."""
    alternatives: int = 0
    """So many of the likeliest tokens are told beside each that is written."""
    edited_at: Site | None = None
    """Where its editors act, if what they change is to be told at the end."""
    owner: Hashable = None
    """Whose it is: what was read of one owner's prompts is not used for another's."""


@dataclass(frozen=True)
class Seen(Generic[C]):
    """What a watcher made of some tokens, in one step."""

    codes: C
    """Of all tokens of the step that it watched, whosever they are."""
    start: int
    """The first row of these tokens."""
    stop: int
    """The row after the last."""


@dataclass(frozen=True)
class Read(Generic[C]):
    """The prompt has been read."""

    codes: list[list[Seen[C]]]
    """For each watcher, the codes of the prompt's tokens, piece by piece."""
    held: int
    """So many of them, the first, had been read before."""


@dataclass(frozen=True)
class Wrote(Generic[C]):
    """A token of the answer."""

    token: int
    logprob: float
    """The natural logarithm of its probability under the model as edited."""
    alternatives: list[tuple[int, float]]
    """The likeliest tokens with theirs, the likeliest first."""
    codes: list[Seen[C]]
    """For each watcher, the codes of this token: what was active when the model read it."""


@dataclass(frozen=True)
class Effect:
    """What editors changed."""

    before: Tensor
    """[tokens read, D] the activations where they act, before they did."""
    divergence: float
    """KL(plain ‖ edited) of the predictions along the answer, nats per token."""


@dataclass(frozen=True)
class Ended:
    """Nothing more comes."""

    reason: Literal["stop", "length"]
    """`stop` where the model ended its answer itself."""
    effect: Effect | None = None
    """Where it was asked for, and steps measure it."""


@dataclass(frozen=True)
class Failed:
    """Nothing more comes: an edit or a watcher raised an error, or no token can be chosen."""

    error: PellucidError


Event = Read[C] | Wrote[C] | Ended | Failed


def check(request: Request[C], model: Model, room: int) -> None:
    """Refuse what cannot be answered.

    Raises:
        InputError: when it is empty, does not fit in a slot, or names a site the model does not have.
    """
    length = len(request.prompt)
    if not length:
        raise InputError("The prompt is empty. Give at least one word.")
    if length + request.sampling.max_tokens > room:
        raise InputError(
            f"The prompt has {length} tokens and may be answered with {request.sampling.max_tokens}: "
            f"together more than the {room} there is room for. Shorten one of them."
        )
    for site in (*(w.site for w in request.watch), *(s for s, _ in request.editors)):
        model.check_site(site)
