"""What counts: parameters and training FLOPs of a transformer from its configuration, under each convention.

Laws differ in what they call N, and their exponents with it. A `Transformer` is a decoder-only transformer;
`parameters` gives its N under a convention:

    all             every weight; a head tied to the embedding counts once           Hoffmann et al. 2022
    active          of those, what one token uses: all but the experts it does not visit
    no_embedding    active, without embeddings, positions and head                   Kaplan et al. 2020
    with_head       the same with the head, tied or not: what is multiplied by       Porian et al. 2024

`training_flops` counts multiplications and additions, backward pass twice the forward. It counts attention to
the average number of earlier tokens; "full" counts all of the context, as Hoffmann et al. do. Sources: Kaplan
et al. 2020 (arXiv 2001.08361, table 1), Hoffmann et al. 2022 (arXiv 2203.15556, appendix F), Porian et al.
2024 (arXiv 2406.19146), Pearce and Song 2024 (arXiv 2406.12907). Norms, softmax and activations are not
counted as FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.surface import Surface

Convention = Literal["all", "active", "no_embedding", "with_head"]
Attention = Literal["causal", "full"]
RUN_COLUMNS = ("layers", "width", "heads", "ffn", "vocabulary")
MORE_COLUMNS = ("kv_heads", "head_width", "positions", "experts", "active_experts", "shared_experts")
MODEL_TYPES = ("gpt2", "llama", "mistral", "mixtral")
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True)
class Transformer:
    """The configuration of a decoder-only transformer."""

    layers: int
    width: int
    heads: int
    ffn: int
    """Width inside the MLP; of one expert, where there are experts."""
    vocabulary: int
    kv_heads: int | None = None
    """Heads of keys and values; None for as many as `heads`."""
    head_width: int | None = None
    """None for width / heads."""
    gated: bool = True
    """Whether an MLP has a gate beside its up and down projections."""
    tied: bool = False
    """Whether the head is the embedding."""
    positions: int = 0
    """Learned positions; 0 for rotary ones."""
    biases: bool = False
    """Whether linear maps and norms have biases."""
    experts: int = 1
    """MLPs in each layer of which a token is routed to some."""
    active_experts: int = 1
    shared_experts: int = 0
    """MLPs of the same width beside those, which every token visits."""

    def __post_init__(self) -> None:
        counted = ("layers", "width", "heads", "ffn", "vocabulary", "experts", "active_experts")
        for name in counted:
            _whole(name, getattr(self, name), least=1)
        for name in ("positions", "shared_experts"):
            _whole(name, getattr(self, name), least=0)
        for name in ("kv_heads", "head_width"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least=1)
        if self.head_width is None and self.width % self.heads:
            raise InputError(
                f"A width of {self.width} is not a multiple of {self.heads} heads: give the head width."
            )
        if self.active_experts > self.experts:
            raise InputError(f"{self.active_experts} active experts are more than all {self.experts}.")

    @classmethod
    def from_run(cls, values: Mapping[str, float], *, gated: bool = True, tied: bool = False) -> Transformer:
        """Read the columns of a run: those of `RUN_COLUMNS`, and any of `MORE_COLUMNS`.

        Raises:
            InputError: when one is missing or no whole number.
        """
        missing = [name for name in RUN_COLUMNS if name not in values]
        if missing:
            raise InputError(
                f"To count a run it needs {', '.join(RUN_COLUMNS)}; missing: {', '.join(missing)}."
            )
        told = {name: values[name] for name in (*RUN_COLUMNS, *MORE_COLUMNS) if name in values}
        whole = {name: int(value) if float(value).is_integer() else value for name, value in told.items()}
        return cls(**whole, gated=gated, tied=tied)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Transformer:
        """Read the `config.json` of a Hugging Face model of a type in `MODEL_TYPES`.

        Raises:
            UnknownNameError: when the model is of another type, whose weights would be counted wrongly.
            InputError: when a field is missing.
        """
        kind = config.get("model_type")
        if kind not in MODEL_TYPES:
            raise UnknownNameError("type of model that can be counted", kind, MODEL_TYPES)
        try:
            if kind == "gpt2":
                width = config["n_embd"]
                return cls(
                    config["n_layer"],
                    width,
                    config["n_head"],
                    config.get("n_inner") or 4 * width,
                    config["vocab_size"],
                    gated=False,
                    tied=True,
                    positions=config["n_positions"],
                    biases=True,
                )
            return cls(
                config["num_hidden_layers"],
                config["hidden_size"],
                config["num_attention_heads"],
                config["intermediate_size"],
                config["vocab_size"],
                kv_heads=config.get("num_key_value_heads"),
                head_width=config.get("head_dim"),
                tied=bool(config.get("tie_word_embeddings", False)),
                experts=config["num_local_experts"] if kind == "mixtral" else 1,
                active_experts=config["num_experts_per_tok"] if kind == "mixtral" else 1,
            )
        except KeyError as error:
            raise InputError(f"The configuration of a {kind} has no {error}. Is the file whole?") from error


def parameters(model: Transformer, convention: Convention = "all") -> int:
    """N under a convention; see the head of the module.

    Raises:
        UnknownNameError: when there is no such convention.
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError("convention", convention, CONVENTIONS)
    experts = model.experts if convention == "all" else model.active_experts
    body = model.layers * (_attention(model) + _mlps(model, experts) + 2 * _norm(model)) + _norm(model)
    embedding = model.vocabulary * model.width
    if convention == "no_embedding":
        return body
    if convention == "with_head":
        return body + embedding
    return body + embedding * (1 if model.tied else 2) + model.positions * model.width


def training_flops(
    model: Transformer, tokens: float, *, context: int, attention: Attention = "causal"
) -> float:
    """FLOPs of training, forward and backward.

    Args:
        model: the model.
        tokens: the tokens it is trained on.
        context: the length of a row in tokens.
        attention: whether a token attends to those before it and itself, or all of the context is counted.
    """
    _whole("context", context, least=1)
    if attention not in get_args(Attention):
        raise UnknownNameError("count of attention", attention, get_args(Attention))
    attended = (context + 1) / 2 if attention == "causal" else float(context)
    inner = model.heads * _head_width(model)
    # Each weight multiplies and adds once for a token; scores and the sum over values cost as much again.
    weights = model.layers * (_attention_weights(model) + _mlps(model, model.active_experts, biases=False))
    forward = 2 * (weights + model.vocabulary * model.width) + model.layers * 4 * inner * attended
    return 3 * forward * tokens


@dataclass(frozen=True)
class Count:
    """One convention's N of a model, and what 6ND makes of it."""

    convention: Convention
    N: int
    flops_6nd: float
    share: float
    """6ND as a share of the FLOPs counted one by one."""


def counts(model: Transformer, tokens: float, *, context: int) -> list[Count]:
    """N under every convention, and 6ND beside the exact FLOPs."""
    exact = training_flops(model, tokens, context=context)
    found = []
    for convention in CONVENTIONS:
        N = parameters(model, convention)
        found.append(Count(convention, N, 6.0 * N * tokens, 6.0 * N * tokens / exact))
    return found


@dataclass(frozen=True)
class CountedFit:
    """The exponents of a fit under one convention."""

    convention: Convention
    surface: Surface
    exponent: float
    """a of N* ~ C^a, with C = 6ND in the same count."""


def exponents(
    models: Sequence[Transformer],
    tokens: Sequence[float],
    losses: Sequence[float],
    fit: Callable[[Floats, Floats, Floats], Surface],
) -> list[CountedFit]:
    """Fit the same runs under every convention.

    Args:
        models: the model of each run.
        tokens: the tokens each was trained on.
        losses: the loss each reached.
        fit: takes N, D and losses, arrays [runs], and gives the fitted surface.

    Raises:
        InputError: when the three are not equally many.
    """
    if not len(models) == len(tokens) == len(losses):
        raise InputError(
            f"Expected as many models as tokens and losses; got {len(models)}, {len(tokens)}, {len(losses)}."
        )
    found = []
    for convention in CONVENTIONS:
        N = np.array([parameters(model, convention) for model in models], dtype=np.float64)
        surface = fit(N, np.asarray(tokens, dtype=np.float64), np.asarray(losses, dtype=np.float64))
        found.append(CountedFit(convention, surface, float(surface.exponent[0])))
    return found


def optimum_exponent(
    surface: Surface,
    models: Sequence[Transformer],
    budgets: Floats,
    *,
    true: Convention = "all",
    counted: Convention = "no_embedding",
) -> float:
    """The exponent of N* against C that a study would find if it counted otherwise than the law does.

    The law holds in the convention `true`. For each budget in the counted FLOPs, 6 · counted N · D, the best
    of a ladder of models is looked for, between its rungs by interpolation; the exponent is the slope of log
    N* on log C.

    Args:
        surface: one law.
        models: a ladder of models, growing.
        budgets: FLOPs as counted, [B].
        true: the N of the law.
        counted: the N of the study.

    Raises:
        InputError: when the best of a budget is at an end of the ladder.
    """
    logs = [np.log([parameters(s, c) for s in models]) for c in (counted, true)]
    fine = np.linspace(logs[0][0], logs[0][-1], 4001)
    N = np.exp(np.interp(fine, logs[0], logs[1]))
    best = []
    for budget in np.asarray(budgets, dtype=np.float64):
        at = int(np.argmin(surface.loss(N, budget / 6 / np.exp(fine))))
        if at in (0, len(fine) - 1):
            raise InputError(
                f"The best model for {budget:.3g} FLOPs is outside the ladder: give it more rungs."
            )
        best.append(fine[at])
    return float(np.polyfit(np.log(budgets), best, 1)[0])


def _head_width(model: Transformer) -> int:
    return model.head_width or model.width // model.heads


def _attention_weights(model: Transformer) -> int:
    """Weights of queries, keys, values and output in a layer."""
    inner = model.heads * _head_width(model)
    kv = (model.kv_heads or model.heads) * _head_width(model)
    return 2 * model.width * inner + 2 * model.width * kv


def _attention(model: Transformer) -> int:
    inner = model.heads * _head_width(model)
    kv = (model.kv_heads or model.heads) * _head_width(model)
    return _attention_weights(model) + (inner + 2 * kv + model.width if model.biases else 0)


def _mlps(model: Transformer, experts: int, *, biases: bool = True) -> int:
    """Parameters of a layer's MLPs, so many experts counted, the router with them."""
    one = (3 if model.gated else 2) * model.width * model.ffn
    if biases and model.biases:
        one += (2 if model.gated else 1) * model.ffn + model.width
    router = model.width * model.experts if model.experts > 1 else 0
    return one * (experts + model.shared_experts) + router


def _norm(model: Transformer) -> int:
    return model.width * (2 if model.biases else 1)


def _whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(
            f"Expected {name.replace('_', ' ')} to be a whole number of at least {least}; got {value!r}."
        )
