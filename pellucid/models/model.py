"""A model: a Hugging Face network with its tokenizer, its digest and its sites.

`load` turns a reference into one. The network is used as it is; reading and editing go through `hooks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.models import families, hooks, weights
from pellucid.models.pieces import Pieces

Precision = Literal["auto", "fp32", "bf16"]
Message = Mapping[str, str]


@dataclass(frozen=True)
class Model:
    """A network whose sites have names."""

    network: nn.Module
    """A Hugging Face causal language model in evaluation mode."""
    tokenizer: Any
    """The Hugging Face tokenizer that belongs to it."""
    digest: str
    """Names the weights and the tokenizer; dictionaries refuse a model with another."""
    name: str
    """The reference it was loaded from."""

    @property
    def config(self) -> Any:
        """The Hugging Face configuration."""
        return self.network.config

    @property
    def width(self) -> int:
        """The width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """How many transformer layers there are."""
        return families.num_layers(self.network)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the network computes in."""
        return next(self.network.parameters()).dtype

    @cached_property
    def bos_id(self) -> int | None:
        """The token that opens a text, where the tokenizer itself adds one; otherwise none."""
        first = self.tokenizer("a", add_special_tokens=True).input_ids[:1]
        return first[0] if first and first[0] == self.tokenizer.bos_token_id else None

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ids = {self.tokenizer.eos_token_id}
        configured = getattr(self.network.generation_config, "eos_token_id", None)
        ids.update(configured if isinstance(configured, list) else [configured])
        return frozenset(i for i in ids if i is not None)

    @property
    def unembedding(self) -> Tensor:
        """[vocabulary, width]: a row per token, what the logits are read with."""
        head = self.network.get_output_embeddings()  # type: ignore[operator]
        return head.weight  # type: ignore[no-any-return]

    @property
    def final_norm(self) -> nn.Module:
        """The norm before the unembedding."""
        return self.network.get_submodule(families.of(self.network).final)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text, with the opening token where the model takes one.

        Raises:
            InputError: when the text holds no token.
        """
        ids = list(self.tokenizer(text, add_special_tokens=True).input_ids)
        if len(ids) <= (self.bos_id is not None):
            raise InputError("The text is empty: there is nothing to read. Give at least one word.")
        return ids

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat, through the model's template, ready for the model's answer.

        A model without a template gets the last message as plain text.
        """
        if not messages or not messages[-1].get("content", "").strip():
            raise InputError("The prompt is empty. Give at least one word.")
        if self.tokenizer.chat_template is None:
            return self.encode_text(messages[-1]["content"])
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of some prompts, each a chat of its own."""
        return [self.encode_chat([{"role": "user", "content": prompt}]) for prompt in prompts]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens."""
        if len(token_ids) != 1:
            return str(self.tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False))
        token = int(token_ids[0])
        if token not in self._texts:
            self._texts[token] = str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))
        return self._texts[token]

    @cached_property
    def _texts(self) -> dict[int, str]:
        """Of tokens by themselves: while a model writes they are asked for again and again."""
        return {}

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, so that joined they give the text back.

        A token that holds part of a character gives an empty piece until the character is whole.
        """
        pieces = Pieces(self.decode)
        found = [pieces.add(token) for token in token_ids]
        if found:
            found[-1] += pieces.end()
        return found

    def capture(self, token_ids: Tensor, sites: Sequence[Site], **options: Any) -> Mapping[Site, Tensor]:
        """Activations at some sites for a batch of rows; see `hooks.capture`."""
        return hooks.capture(self.network, sites, token_ids.to(self.device), **options)

    def columns(self, token_ids: Tensor, sites: Sequence[Site]) -> Tensor:
        """[rows, positions, S·D] the activations of some sites side by side."""
        found = self.capture(token_ids, sites)
        return torch.cat([found[site] for site in sites], dim=-1)

    def check_site(self, site: Site) -> Site:
        """The site, if the model has it.

        Raises:
            InputError: when it does not.
        """
        families.hook_point(self.network, site)
        return site


def load(reference: str = "smollm2", *, precision: Precision = "auto", device: str = "auto") -> Model:
    """Load a model by reference.

    Args:
        reference: an alias, `hf:org/name@revision`, `pypi:package==version#file.gguf`, a folder, or a `.gguf`
            file.
        precision: what to compute in; `auto` is bf16 where the processor or the GPU multiplies it, else fp32.
        device: `cpu`, `cuda`, …; `auto` takes a GPU if there is one.

    Raises:
        InputError, IntegrityError, UpstreamError: see `weights.locate`.
    """
    found = weights.locate(reference)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    network, tokenizer = _read(found.folder, resolve(precision, where))
    return Model(network.eval().to(where), tokenizer, found.digest, reference)


def _read(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Network and tokenizer of a folder, which must hold all weights: transformers would make up the rest."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    config = files.read_json(folder / "config.json")
    family = families.named(config.get("model_type") if isinstance(config, dict) else None)
    was_shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        detail = str(error).strip().splitlines()[:1]
        raise IntegrityError(
            f"The model {str(folder)!r} cannot be read: a file is missing or damaged ({''.join(detail)}). "
            "Expected config.json, tokenizer.json and all .safetensors files. Fetch or make it again."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if was_shown:
            logging.enable_progress_bar()
    wrong = {
        "lacks": sorted(report["missing_keys"]),
        "has in another size": sorted(str(key[0]) for key in report["mismatched_keys"]),
        "has no place for": sorted(
            key for key in report["unexpected_keys"] if key.startswith(family.layers + ".")
        ),
    }
    if any(wrong.values()):
        told = "; ".join(f"{what} {', '.join(keys[:3])}" for what, keys in wrong.items() if keys)
        raise IntegrityError(
            f"The weights in {str(folder)!r} are not those of its config.json: the folder {told}. "
            "Fetch or make it again."
        )
    return network, tokenizer


def resolve(precision: Precision, device: str = "cpu") -> torch.dtype:
    """The dtype that a precision means on a device."""
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else has_bf16_arithmetic()
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def has_bf16_arithmetic() -> bool:
    """Whether this processor multiplies bf16 in hardware; without it bf16 is slower than fp32."""
    found = (
        torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends.cpu, "get_cpu_capability") else ""
    )
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) or "SVE" in found
