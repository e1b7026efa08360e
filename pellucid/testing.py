"""Test doubles: a tiny seeded model of every family, built in memory without weights.

`tiny_model` gives a `Model` that behaves like a loaded one (sites, edits, chat template, digest) and takes
milliseconds. It says nothing sensible: its weights are drawn from a generator seeded by the caller, wide
enough that activations and logits differ from token to token. For the tests of this house and of whoever
builds on it; no room imports it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import nn

from pellucid.core import digests
from pellucid.core.errors import InputError, UnknownNameError
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model

HEADS = 4
"""Attention heads of every tiny model; the width is a multiple of twice as many, for rotary pairs."""
CONTEXT = 512
"""The longest row a tiny model reads."""

_END, _START, _STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_BYTES_AND_SPECIALS = 256 + 3
_OPENS_A_TEXT = ("mistral", "gemma", "gemma2", "gemma3_text")
"""Families whose tokenizers put an opening token before every text; the tiny ones do the same."""
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SAMPLE = (
    "The quick brown fox jumps over the lazy dog while the other dogs look on and bark at the moon. "
    "When the rain came in the morning, the people of the town stayed inside and talked about the weather, "
    "and there was nothing in the world that they would rather have done with the time they had been given. "
    "A language model reads one token after another and says which of them it thinks will come next. "
)

WORDS = (
    "the", "dog", "fox", "moon", "rain", "town", "people", "weather", "language", "token", "time", "world",
    "quick", "brown", "lazy",
)  # fmt: skip
"""Words of that sample, to make texts of."""


def tiny_model(
    family: str = "llama", *, layers: int = 4, width: int = 32, vocabulary: int = 320, seed: int = 0
) -> Model:
    """A random model of a family, with a byte-level tokenizer; the same arguments give the same bits.

    Args:
        family: an architecture of `pellucid.models.families`, such as `llama` or `gemma2`.
        layers: how many transformer layers.
        width: width of the residual stream, a multiple of 8.
        vocabulary: at most so many tokens, 259 or more: bytes, 3 special tokens, merged pieces of English.
        seed: of the weights.

    Raises:
        InputError: when the family is unknown or a number makes no sense.
    """
    if family not in FAMILIES:
        raise UnknownNameError("supported architecture", family, FAMILIES)
    if layers < 1 or width < 8 or width % (2 * HEADS):
        raise InputError(
            f"A tiny model needs layers and a width divisible by {2 * HEADS}; got {layers} and {width}."
        )
    tokenizer = _tokenizer(vocabulary, opens=family in _OPENS_A_TEXT)
    network = _network(family, layers, width, tokenizer)
    _fill(network, seed)
    return Model(network, tokenizer, _digest(network, tokenizer), f"tiny:{family}")


def _tokenizer(vocabulary: int, *, opens: bool) -> Any:
    """Byte pairs over bytes, so that every text has tokens and every character can be split over several."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    if vocabulary < _BYTES_AND_SPECIALS:
        raise InputError(f"A vocabulary needs {_BYTES_AND_SPECIALS} tokens at least; got {vocabulary}.")
    tokenizer = Tokenizer.from_str(_byte_pairs(vocabulary))
    if opens:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{_END} $A", special_tokens=[(_END, tokenizer.token_to_id(_END))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_END, eos_token=_STOP, pad_token=_STOP, model_max_length=CONTEXT
    )
    made.chat_template = _CHAT_TEMPLATE
    return made


@cache
def _byte_pairs(vocabulary: int) -> str:
    """The tokenizer as JSON, learnt from the sample above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_END, _START, _STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_SAMPLE], trainer)
    return str(tokenizer.to_str())


def _network(family: str, layers: int, width: int, tokenizer: Any) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "gpt2":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": HEADS, "n_positions": CONTEXT}
    else:
        sizes = {
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "max_position_embeddings": CONTEXT,
        }
        if family != "gpt_neox":
            # Two queries share a key, a head is a share of the width, and windows are short enough to matter.
            sizes |= {"num_key_value_heads": HEADS // 2, "head_dim": width // HEADS}
        if family in ("mistral", "gemma2", "gemma3_text"):
            sizes |= {"sliding_window": 64}
        if family in ("gemma2", "gemma3_text"):
            sizes |= {"query_pre_attn_scalar": width // HEADS}
    config = AutoConfig.for_model(family, **shared, **sizes)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return network.eval()


@torch.no_grad()
def _fill(network: nn.Module, seed: int) -> None:
    """Matrices that keep the length of what they multiply, embeddings and norms near one, small biases."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(network.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2:
            embeds = "embed" in name or "wte" in name or "wpe" in name
            weight.copy_(noise if embeds else noise / math.sqrt(weight.shape[-1]))
        elif name.endswith("bias"):
            weight.copy_(noise / 10)
        else:
            weight.add_(noise / 10)


def _digest(network: nn.Module, tokenizer: Any) -> str:
    """Names the weights and the tokenizer, as the digest of a loaded model does."""
    weights = {
        name: digests.of_bytes(memoryview(weight.detach().numpy().tobytes()))
        for name, weight in sorted(network.named_parameters())
    }
    return digests.of_json({"weights": weights, "tokenizer": str(tokenizer.backend_tokenizer.to_str())})
