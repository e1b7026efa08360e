"""A tiny llama as a GGUF file and as a folder, written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest
from transformers.utils import logging

from pellucid.models.model import Model

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}


def write_gguf(
    path: Path, model: Model, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32
) -> None:
    """The weights of a llama in GGUF, as llama.cpp's converter lays them out."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    state = json.loads(model.tokenizer.backend_tokenizer.to_str())
    pieces = sorted(model.tokenizer.get_vocab(), key=model.tokenizer.get_vocab().__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if piece.startswith("<|") else 1 for piece in pieces])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(model.tokenizer.bos_token_id)
    writer.add_eos_token_id(model.tokenizer.eos_token_id)
    writer.add_chat_template(model.tokenizer.chat_template)
    for name, weight in model.network.state_dict().items():
        array = weight.numpy()
        for heads, part in ((config.num_attention_heads, "q_proj"), (config.num_key_value_heads, "k_proj")):
            if part in name:  # rotary pairs lie beside each other in GGUF, half a head apart in transformers
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        stored = name
        for theirs, ours in _NAMES.items():
            stored = stored.replace(theirs, ours)
        used = kind if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(stored, gguf.quantize(np.ascontiguousarray(array), used), raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def tiny_gguf(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file, unquantised."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, tiny)
    return path


@pytest.fixture(scope="session")
def quantised_gguf(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file, in eight bits."""
    path = tmp_path_factory.mktemp("gguf") / "tiny-q8.gguf"
    write_gguf(path, tiny, gguf.GGMLQuantizationType.Q8_0)
    return path


def save(model: Model, folder: Path) -> Path:
    """A model as a transformers folder."""
    logging.disable_progress_bar()
    cast(Any, model.network).save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a transformers folder; copy it before changing it."""
    return save(tiny, tmp_path_factory.mktemp("folder") / "tiny")
