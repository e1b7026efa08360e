from __future__ import annotations

import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models import generation
from pellucid.models.generation import Generator, Pass, PromptRead, Sampling, Step
from pellucid.models.model import Model
from pellucid.testing import tiny_model

FAMILIES = ("llama", "gpt2", "gpt_neox", "gemma2", "qwen3", "mistral")


class Recorder:
    """Watches a site and keeps what it saw."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


def prompts_of(model: Model, *texts: str) -> list[list[int]]:
    return [model.encode_text(t) for t in texts]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_transformers(family: str) -> None:
    model = tiny_model(family)
    prompt = model.encode_text("The rain came in the morning.")
    mine = generation.answers(Generator(model, [prompt], Sampling(max_tokens=12)))[0]
    theirs = model.network.generate(  # type: ignore[operator]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=model.tokenizer.pad_token_id,
    )[0, len(prompt) :].tolist()
    ended = [i for i, t in enumerate(theirs) if t in model.end_ids]
    assert mine.token_ids == theirs[: ended[0] if ended else None]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_unequal_prompts_writes_what_each_row_writes_alone(family: str) -> None:
    model = tiny_model(family)
    prompts = prompts_of(model, "The rain", "A language model reads one token after another", "Dogs bark.")
    together = generation.answers(Generator(model, prompts, Sampling(max_tokens=8)))
    for prompt, row in zip(prompts, together, strict=True):
        alone = generation.answers(Generator(model, [prompt], Sampling(max_tokens=8)))[0]
        assert row.token_ids == alone.token_ids
        assert row.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_codes_belong_to_the_tokens_own_positions(tiny: Model) -> None:
    site = Site("resid_post", 2)
    prompts = prompts_of(tiny, "The rain", "When the rain came")
    events = list(Generator(tiny, prompts, Sampling(max_tokens=6), watch=[Recorder(site)]))
    read = events[0]
    assert isinstance(read, PromptRead)
    steps = [e for e in events if isinstance(e, Step)]
    for row, prompt in enumerate(prompts):
        written = [s.token_ids[row] for s in steps if s.live[row]]
        whole = tiny.capture(torch.tensor([[*prompt, *written]]), [site])[site][0]
        seen = torch.cat([read.codes[0][row], *(s.codes[0][row][None] for s in steps if s.live[row])])
        torch.testing.assert_close(seen, whole, atol=1e-4, rtol=1e-4)


def test_logprobs_are_those_of_one_pass_over_prompt_and_answer(tiny: Model) -> None:
    prompts = prompts_of(tiny, "The rain", "A language model reads")
    written = generation.answers(Generator(tiny, prompts, Sampling(max_tokens=7, temperature=1.0, seed=3)))
    whole = generation.logprobs_of(tiny, prompts, [a.token_ids for a in written])
    for answer, logprobs in zip(written, whole, strict=True):
        again = logprobs[
            torch.arange(len(answer.token_ids)), torch.tensor(answer.token_ids, dtype=torch.long)
        ]
        assert answer.logprobs == pytest.approx(again.tolist(), abs=1e-4)


def test_edits_hold_at_every_step_and_leave_nothing_behind(tiny: Model) -> None:
    prompt = prompts_of(tiny, "The rain came")
    phases: list[str] = []

    def push(x: torch.Tensor, this: Pass) -> torch.Tensor:
        phases.append(this.phase)
        return x + 3.0

    before = generation.answers(Generator(tiny, prompt, Sampling(max_tokens=5)))
    site = Site("resid_post", 1)
    edited = generation.answers(Generator(tiny, prompt, Sampling(max_tokens=5), editors=[(site, push)]))
    after = generation.answers(Generator(tiny, prompt, Sampling(max_tokens=5)))
    assert phases[0] == "prompt"
    assert set(phases[1:]) <= {"answer"}
    assert edited != before
    assert after == before


def test_nothing_is_attached_between_two_events(tiny: Model) -> None:
    tokens = torch.tensor(prompts_of(tiny, "The rain came"))
    plain = tiny.network(tokens).logits

    def push(x: torch.Tensor, _this: Pass) -> torch.Tensor:
        return x + 3.0

    generator = Generator(
        tiny, [tokens[0].tolist()], Sampling(max_tokens=4), editors=[(Site("resid_post", 1), push)]
    )
    for _ in generator:
        assert torch.equal(tiny.network(tokens).logits, plain)
        assert torch.is_grad_enabled()


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(tiny: Model) -> None:
    prompt = prompts_of(tiny, "The rain came")

    def write(seed: int) -> list[int]:
        return generation.answers(
            Generator(tiny, prompt, Sampling(max_tokens=20, temperature=1.0, seed=seed))
        )[0].token_ids

    assert write(1) == write(1)
    assert write(1) != write(2)


def test_top_p_keeps_to_the_likeliest_tokens(tiny: Model) -> None:
    prompt = prompts_of(tiny, "The rain came")
    greedy = generation.answers(Generator(tiny, prompt, Sampling(max_tokens=6)))
    for heat, top_p in ((1.0, 1e-6), (1.0, 5e-324), (5e-324, 1.0), (5e-324, 0.5)):
        sampling = Sampling(max_tokens=6, temperature=heat, top_p=top_p)
        assert generation.answers(Generator(tiny, prompt, sampling)) == greedy


@pytest.mark.parametrize(("words", "sharpness"), [(6, 1.0), (3000, 4.0), (3000, 0.1)])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_draws_fall_on_the_nucleus_by_its_probabilities(words: int, sharpness: float, top_p: float) -> None:
    weights = (sharpness * torch.randn(words, generator=torch.Generator().manual_seed(0))).softmax(-1)
    likeliest = sorted(range(words), key=lambda w: -float(weights[w]))
    nucleus: dict[int, float] = {}
    for word in likeliest:
        if top_p < 1 and sum(nucleus.values()) >= top_p:
            break
        nucleus[word] = float(weights[word])
    number = 4_000
    draws = (torch.arange(number)[:, None] + 0.5) / number
    drawn = generation.drawn(weights.expand(number, words), torch.full((number, 1), top_p), draws)
    share = torch.bincount(drawn, minlength=words) / number
    wanted = torch.zeros(words)
    wanted[list(nucleus)] = torch.tensor(list(nucleus.values())) / sum(nucleus.values())
    assert (share - wanted).abs().max() < 2 / number
    assert set(drawn.tolist()) <= nucleus.keys()


def test_an_empty_prompt_and_senseless_sampling_are_refused(tiny: Model) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        Generator(tiny, [[]])
    for wrong in ({"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}):
        with pytest.raises(InputError, match="Sampling needs"):
            Sampling(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no site"):
        Generator(tiny, [[5]], watch=[Recorder(Site("resid_post", 99))])


@pytest.mark.parametrize("worth", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logits_that_are_no_numbers_are_one_clear_error(worth: float, temperature: float) -> None:
    model = tiny_model("llama")

    def spoil(x: torch.Tensor, this: Pass) -> torch.Tensor:
        return x * worth if this.phase == "answer" else x

    sampling = Sampling(max_tokens=4, temperature=temperature, top_p=0.7)
    written = Generator(model, prompts_of(model, "Hello"), sampling, editors=[(Site("resid_post", 1), spoil)])
    with pytest.raises(InputError, match="no finite numbers"):
        generation.answers(written)
