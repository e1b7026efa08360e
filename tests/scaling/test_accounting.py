from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.accounting import (
    CONVENTIONS,
    Transformer,
    counts,
    exponents,
    optimum_exponent,
    parameters,
    training_flops,
)
from pellucid.scaling.surface import Surface

LLAMA_3_8B = Transformer(32, 4096, 32, 14336, 128256, kv_heads=8)
MIXTRAL = Transformer(32, 4096, 32, 14336, 32000, kv_heads=8, experts=8, active_experts=2)
GPT2 = Transformer(12, 768, 12, 3072, 50257, gated=False, tied=True, positions=1024, biases=True)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (GPT2, 124_439_808),
        (Transformer(30, 576, 9, 1536, 49152, kv_heads=3, tied=True), 134_515_008),  # SmolLM2-135M
        (LLAMA_3_8B, 8_030_261_248),
        (MIXTRAL, 46_702_792_704),
    ],
)
def test_models_have_the_parameters_their_files_have(model: Transformer, published: int) -> None:
    assert parameters(model) == published


def test_a_mixture_uses_part_of_its_parameters() -> None:
    assert parameters(MIXTRAL, "active") == pytest.approx(12.88e9, rel=1e-3)
    dense = Transformer(32, 4096, 32, 14336, 32000, kv_heads=8)
    assert parameters(dense, "active") == parameters(dense)


TINY = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (LlamaForCausalLM, LlamaConfig(**TINY, intermediate_size=48, num_key_value_heads=2)),
        (LlamaForCausalLM, LlamaConfig(**TINY, intermediate_size=40, tie_word_embeddings=True, head_dim=16)),
        (
            MixtralForCausalLM,
            MixtralConfig(**TINY, intermediate_size=24, num_key_value_heads=2, num_local_experts=4),
        ),
        (GPT2LMHeadModel, GPT2Config(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=20)),
    ],
)
def test_a_configuration_counts_as_the_network_built_from_it(network: type, config: object) -> None:
    built = network(config)
    model = Transformer.from_config(config.to_dict())  # type: ignore[attr-defined]
    assert parameters(model) == sum(p.numel() for p in built.parameters())
    no_embedding = sum(
        p.numel()
        for n, p in built.named_parameters()
        if not any(w in n for w in ("embed", "wte", "wpe", "lm_head"))
    )
    if model.experts == 1:
        assert parameters(model, "no_embedding") == no_embedding
    assert parameters(model, "with_head") == parameters(model, "no_embedding") + 96 * 32


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_flops_are_those_that_torch_counts(kv_heads: int) -> None:
    config = LlamaConfig(
        **TINY, intermediate_size=48, num_key_value_heads=kv_heads, attn_implementation="eager"
    )
    network, context = LlamaForCausalLM(config), 24
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, context, dtype=torch.long)).logits.sum().backward()
    # Rotary angles are a small product of their own, which no count of a transformer has.
    rotary = 2 * (config.hidden_size // 8) * context
    model = Transformer.from_config(config.to_dict())
    counted = training_flops(model, 2 * context, context=context, attention="full")
    assert counter.get_total_flops() == pytest.approx(counted, abs=3 * rotary)


def test_attention_to_the_tokens_before_is_counted_one_by_one() -> None:
    model, context = Transformer(2, 64, 4, 128, 100), 37
    inner = 64
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 100 * 64
    by_hand = sum(2 * weights + 2 * 4 * inner * seen for seen in range(1, context + 1))
    assert training_flops(model, context, context=context) == pytest.approx(3 * by_hand, rel=1e-12)


def test_6nd_is_exact_but_for_attention_with_the_head_counted() -> None:
    for model in (LLAMA_3_8B, MIXTRAL):
        rows = {row.convention: row for row in counts(model, 1e12, context=2)}
        assert rows["with_head"].share == pytest.approx(1, abs=2e-4)
        assert rows["no_embedding"].share < 1
        assert rows["with_head"].flops_6nd == 6 * rows["with_head"].N * 1e12
    assert {row.convention: row for row in counts(MIXTRAL, 1e12, context=2)}["all"].share > 3


@given(st.integers(1, 40), st.integers(1, 16), st.integers(8, 64), st.integers(1, 4000), st.integers(1, 8192))
def test_counts_are_in_order(layers: int, heads: int, head: int, vocabulary: int, context: int) -> None:
    width = heads * head
    model = Transformer(layers, width, heads, 4 * width, vocabulary, gated=False, tied=True)
    N = {c: parameters(model, c) for c in CONVENTIONS}
    assert N["no_embedding"] < N["with_head"] == N["active"] == N["all"]
    causal = training_flops(model, 1e6, context=context)
    full = training_flops(model, 1e6, context=context, attention="full")
    assert causal <= full
    assert (causal == full) == (context == 1)


def fitted(N: np.ndarray, D: np.ndarray, losses: np.ndarray) -> Surface:
    """A fit for tests: exponents by a grid that is narrowed three times, the rest by least squares."""
    best = (np.inf, np.zeros(5))
    centre, width = np.array([0.4, 0.4]), 0.35
    for _ in range(5):
        for a in np.linspace(centre[0] - width, centre[0] + width, 15):
            for b in np.linspace(centre[1] - width, centre[1] + width, 15):
                columns = np.stack([np.ones_like(N), (N / 1e8) ** -a, (D / 1e10) ** -b], axis=1)
                c = np.linalg.lstsq(columns, losses, rcond=None)[0]
                error = float(np.square(columns @ c - losses).sum())
                if error < best[0] and (c[1:] > 0).all() and c[0] >= 0 and min(a, b) > 0:
                    best = (error, np.array([c[0], c[1] * 1e8**a, c[2] * 1e10**b, a, b]))
        centre, width = best[1][3:], width / 5
    return Surface.of(best[1])


LADDER = [
    Transformer(n, 64 * n, n, 256 * n, 50257, gated=False, tied=True, positions=1024, biases=True)
    for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
]
HOFFMANN = (1.6933737, 406.40102, 410.72283, 0.33917084, 0.2849083)


def test_a_fit_under_each_count_gives_the_law_back_where_it_holds() -> None:
    models = [s for s in LADDER[3:13] for _ in range(4)]
    tokens = np.tile(np.geomspace(1e9, 1e11, 4), 10)
    N = np.array([parameters(s) for s in models], dtype=float)
    losses = Surface.of(HOFFMANN).loss(N, tokens)
    rows = {row.convention: row for row in exponents(models, tokens.tolist(), losses.tolist(), fitted)}
    assert rows["all"].exponent == pytest.approx(0.4565, abs=2e-3)
    # Leaving embeddings out stretches log N where models are small: alpha falls, and a rises.
    assert rows["no_embedding"].surface.alpha < rows["all"].surface.alpha - 0.03
    assert rows["no_embedding"].exponent > rows["all"].exponent + 0.03


def test_without_embeddings_to_leave_out_all_counts_agree() -> None:
    models = [Transformer(n, 64 * n, n, 256 * n, 1, gated=False, tied=True) for n in range(2, 30)]
    budgets = np.geomspace(1e18, 1e20, 5)
    surface = Surface.of(HOFFMANN)
    slopes = [optimum_exponent(surface, models, budgets, counted=c) for c in CONVENTIONS]
    assert slopes == pytest.approx([slopes[0]] * 4, abs=1e-3)


def test_kaplans_exponent_comes_from_hoffmanns_law_by_leaving_embeddings_out() -> None:
    """Pearce and Song 2024: most of the step from 0.46 to Kaplan's 0.73 is what N counts, at their scale."""
    surface, budgets = Surface.of(HOFFMANN), np.geomspace(1e16, 1e20, 9)
    assert optimum_exponent(surface, LADDER, budgets, counted="all") == pytest.approx(0.4565, abs=2e-3)
    small = optimum_exponent(surface, LADDER, budgets)
    assert 0.68 < small < 0.80
    # At the scale of Chinchilla the count hardly matters.
    large = optimum_exponent(surface, LADDER, np.geomspace(1e21, 1e23, 5))
    assert large < 0.5


def test_a_ladder_must_hold_the_best_model() -> None:
    with pytest.raises(InputError, match="outside the ladder"):
        optimum_exponent(Surface.of(HOFFMANN), LADDER[:4], np.array([1e23]))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layers": 0}, "layers to be a whole number of at least 1; got 0"),
        ({"width": 65}, "not a multiple of 4 heads"),
        ({"ffn": 1.5}, "ffn to be a whole number"),
        ({"active_experts": 2}, "2 active experts are more than all 1"),
        ({"kv_heads": 0}, "kv heads to be a whole number"),
        ({"positions": -1}, "positions to be a whole number"),
        ({"vocabulary": True}, "vocabulary to be a whole number"),
    ],
)
def test_a_shape_is_whole_numbers(change: dict[str, object], complaint: str) -> None:
    fields: dict[str, object] = {"layers": 2, "width": 64, "heads": 4, "ffn": 128, "vocabulary": 100}
    with pytest.raises(InputError, match=complaint):
        Transformer(**{**fields, **change})  # type: ignore[arg-type]


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="type of model that can be counted 'mamba'"):
        Transformer.from_config({"model_type": "mamba"})
    with pytest.raises(InputError, match="has no 'hidden_size'"):
        Transformer.from_config({"model_type": "llama", "num_hidden_layers": 2})
    with pytest.raises(UnknownNameError, match="convention"):
        parameters(GPT2, "some")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="attention"):
        training_flops(GPT2, 1.0, context=8, attention="half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="context to be a whole number"):
        training_flops(GPT2, 1.0, context=0)
    with pytest.raises(InputError, match="as many models as tokens"):
        exponents([GPT2], [1.0, 2.0], [3.0], fitted)
