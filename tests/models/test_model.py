from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models.model import Model, has_bf16_arithmetic, load, resolve
from pellucid.models.pieces import bytes_of
from pellucid.testing import tiny_model

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ODD_TEXT = st.text(st.sampled_from("a é日🙂\N{REPLACEMENT CHARACTER}\u0301👩\u200d🔬"), max_size=20)


def with_tokenizer(model: Model, tokenizer: Any) -> Model:
    return Model(model.network, tokenizer, model.digest, model.name)


def sentencepiece_like(*, strips: bool) -> Any:
    """Words with a mark for the space before them, and bytes for the unknown, as in Llama 2 and Gemma."""
    words = ["▁The", "▁dog", "▁", "s", "a", "T", "h", "e", "▁a"]
    vocabulary = {
        piece: n for n, piece in enumerate([*words, "<unk>", *(f"<0x{b:02X}>" for b in range(256))])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if strips else []), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([])
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strips else [])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_the_model_tells_its_sizes(tiny: Model) -> None:
    wide = tiny_model("gpt2", layers=2, width=48)
    assert (wide.width, wide.num_layers) == (48, 2)
    assert (tiny.width, tiny.num_layers) == (32, 4)
    assert tiny.dtype == torch.float32
    assert tiny.device == torch.device("cpu")
    assert tiny.unembedding.shape == (len(tiny.tokenizer), 32)


def test_a_text_opens_with_a_token_only_where_the_tokenizer_puts_one(tiny: Model) -> None:
    assert tiny.bos_id is None
    opening = tiny_model("gemma2")
    assert opening.bos_id == opening.tokenizer.bos_token_id
    assert opening.encode_text("The dog") == [opening.bos_id, *tiny.encode_text("The dog")]


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_an_empty_text_is_refused(family: str) -> None:
    with pytest.raises(InputError, match="text is empty"):
        tiny_model(family).encode_text("")


def test_a_chat_goes_through_the_template_up_to_the_answer(tiny: Model) -> None:
    ids = tiny.encode_chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert tiny.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids[0] == tiny.tokenizer.convert_tokens_to_ids("<|im_start|>")


def test_a_template_that_opens_a_text_itself_gets_no_second_opening() -> None:
    model = tiny_model("gemma")
    ids = model.encode_chat([{"role": "user", "content": "Hi"}])
    assert ids.count(cast(int, model.bos_id)) == 0


def test_a_model_without_a_template_reads_the_last_message_as_text(tiny: Model) -> None:
    tokenizer = tiny_model().tokenizer
    tokenizer.chat_template = None
    plain = with_tokenizer(tiny, tokenizer)
    chat = [{"role": "system", "content": "no"}, {"role": "user", "content": "The dog"}]
    assert plain.encode_chat(chat) == tiny.encode_text("The dog")


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": " \n"}], [{"role": "user"}]])
def test_an_empty_prompt_is_refused(tiny: Model, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        tiny.encode_chat(messages)


def test_an_answer_ends_at_every_token_the_model_or_the_tokenizer_names(tiny: Model) -> None:
    assert tiny.end_ids == {tiny.tokenizer.eos_token_id}
    for configured, expected in ((None, {2}), (7, {2, 7}), ([7, 8], {2, 7, 8})):
        network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
        assert Model(cast(Any, network), tiny.tokenizer, "", "").end_ids == expected


@given(TEXT | ODD_TEXT)
def test_the_pieces_of_a_text_joined_give_the_text_back(tiny: Model, text: str) -> None:
    ids = tiny.tokenizer(text).input_ids
    pieces = tiny.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text == tiny.decode(ids)


@given(st.lists(st.integers(0, 319), max_size=40))
def test_the_pieces_of_any_tokens_joined_give_what_they_decode_to(tiny: Model, ids: list[int]) -> None:
    assert "".join(tiny.pieces(ids)) == tiny.decode(ids)


def test_a_character_of_several_tokens_comes_with_the_last_of_them(tiny: Model) -> None:
    assert tiny.pieces(tiny.tokenizer("x日🙂y").input_ids) == ["x", "", "", "日", "", "", "", "🙂", "y"]


@pytest.mark.parametrize("strips", [True, False])
@given(text=st.text(st.sampled_from("Thedogs a日🙂"), max_size=20))
def test_a_tokenizer_that_drops_the_space_that_opens_a_text_loses_none_between_pieces(
    tiny: Model, strips: bool, text: str
) -> None:
    model = with_tokenizer(tiny, sentencepiece_like(strips=strips))
    ids = model.tokenizer(text).input_ids
    assert "".join(model.pieces(ids)) == text == model.decode(ids)
    words = model.tokenizer("The dog").input_ids
    assert "".join(model.pieces(words)) == "The dog"


def test_reading_takes_tokens_from_any_device(tiny: Model) -> None:
    found = tiny.capture(torch.tensor([[5, 6, 7]]), [Site("resid_post", 0)])
    assert found[Site("resid_post", 0)].shape == (1, 3, 32)


def test_precision_means_a_dtype() -> None:
    assert resolve("fp32") == torch.float32
    assert resolve("bf16") == torch.bfloat16
    assert resolve("auto") == (torch.bfloat16 if has_bf16_arithmetic() else torch.float32)


def test_a_model_loaded_in_bf16_computes_in_it(tiny_folder: Path, tiny: Model) -> None:
    model = load(str(tiny_folder), precision="bf16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert model.name == str(tiny_folder)
    for name, weight in tiny.network.named_parameters():
        assert torch.equal(model.network.get_parameter(name), weight.bfloat16())


@pytest.mark.model
def test_the_embedded_default_is_pinned_and_tells_the_capital_of_france(smollm2: Model) -> None:
    assert smollm2.digest == "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (smollm2.num_layers, smollm2.width, len(smollm2.tokenizer)) == (30, 576, 49_152)
    ids = torch.tensor([smollm2.encode_text("The capital of France is")])
    with torch.inference_mode():
        best = int(cast(Any, smollm2.network)(ids).logits[0, -1].argmax())
    assert smollm2.decode([best]) == " Paris"
    chat = smollm2.encode_chat([{"role": "user", "content": "Hi"}])
    assert smollm2.decode(chat[:1]) == "<|im_start|>"
    assert smollm2.bos_id is None
    assert "".join(smollm2.pieces(chat)) == smollm2.decode(chat)


@pytest.mark.model
def test_the_embedded_default_at_its_sites_is_transformers_bit_for_bit(smollm2: Model) -> None:
    ids = torch.tensor([smollm2.encode_chat([{"role": "user", "content": "Why is the sky blue? Γιατί;"}])])
    with torch.inference_mode():
        states = cast(Any, smollm2.network)(ids, output_hidden_states=True).hidden_states
    sites = [Site("resid_pre", n) for n in (0, 1, 15, 29)]
    found = smollm2.capture(ids, [*sites, Site("resid_final")])
    assert all(torch.equal(found[site], states[cast(int, site.layer)]) for site in sites)
    assert torch.equal(found[Site("resid_final")], states[30])


def test_the_bytes_of_tokens_are_the_bytes_of_the_text(tiny: Model) -> None:
    text = "Straße 日本 🐕\n\t tail"
    ids = tiny.tokenizer(text, add_special_tokens=False).input_ids
    assert b"".join(bytes_of(tiny.tokenizer, i) for i in ids) == text.encode()
