from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import KINDS, Site
from pellucid.models import hooks
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model
from pellucid.models.steps import CompiledSteps, ModuleSteps, Steps, Tokens, Visit, steps_of
from pellucid.testing import tiny_model

ROOM = 48
LENGTHS = (20, 31, 9)


def texts_of(model: Model) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 250, n) for n in LENGTHS]


def shuffled(texts: list[np.ndarray], seed: int, sizes: tuple[int, ...] = (0, 1, 1, 5)) -> Iterator[Tokens]:
    """The texts cut into steps of these sizes at random, several side by side."""
    rng = np.random.default_rng(seed)
    done = [0] * len(texts)
    while any(d < len(t) for d, t in zip(done, texts, strict=True)):
        parts = []
        for slot, text in enumerate(texts):
            count = min(int(rng.choice(sizes)), len(text) - done[slot])
            places = np.arange(done[slot], done[slot] + count)
            parts.append((text[places], np.full(count, slot), places))
            done[slot] += count
        ids, slots, places = (np.concatenate(p) for p in zip(*parts, strict=True))
        if len(ids):
            yield Tokens(ids, slots, places)


def run(
    steps: Steps, cuts: Iterator[Tokens], visits: list[tuple[Site, Visit]]
) -> dict[tuple[int, int], Tensor]:
    """The logits after each token, by slot and place."""
    found = {}
    for tokens in cuts:
        logits = steps.step(tokens, range(len(tokens.ids)), visits)
        for row, key in enumerate(zip(tokens.slots.tolist(), tokens.places.tolist(), strict=True)):
            found[key] = logits[row]
    return found


def variants() -> list[Any]:
    found = []
    for family in FAMILIES:
        model = tiny_model(family)
        if CompiledSteps.takes(model):
            found.append(pytest.param(model, CompiledSteps(model, 3, ROOM, "same"), id=f"{family}-compiled"))
        found.append(pytest.param(model, ModuleSteps(model, 3, ROOM), id=f"{family}-modules"))
    return found


@pytest.mark.parametrize(("model", "steps"), variants())
def test_texts_in_pieces_side_by_side_are_the_texts_alone(model: Model, steps: Steps) -> None:
    texts = texts_of(model)
    found = run(steps, shuffled(texts, 1), [])
    with torch.inference_mode():
        for slot, text in enumerate(texts):
            wanted = model.network(torch.from_numpy(text)[None]).logits[0]
            for place in range(len(text)):
                torch.testing.assert_close(found[slot, place], wanted[place], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("model", "steps"), variants())
@pytest.mark.parametrize("kind", KINDS)
def test_a_site_is_seen_and_edited_as_hooks_do(model: Model, steps: Steps, kind: str) -> None:
    site = Site(kind, None if kind in ("embed", "resid_final") else 2)
    push = torch.linspace(-1, 1, model.width)
    texts = texts_of(model)

    def edit(x: Tensor, which: np.ndarray) -> Tensor:
        assert len(x) == len(which)
        return x + push

    # Few steps: that more of them, and smaller ones, make no difference is proved above.
    found = run(steps, shuffled(texts, 2, (0, 1, 12)), [(site, edit)])
    with torch.inference_mode(), hooks.edited(model.network, [(site, lambda x: x + push)]):
        for slot, text in enumerate(texts):
            wanted = model.network(torch.from_numpy(text)[None]).logits[0]
            for place in range(len(text)):
                torch.testing.assert_close(found[slot, place], wanted[place], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_compiled_text_has_the_same_bits_in_any_company(family: str) -> None:
    model = tiny_model(family)
    texts = texts_of(model)
    steps = CompiledSteps(model, 3, ROOM, "same")
    together = run(steps, shuffled(texts, 3), [])
    again = run(steps, shuffled(texts, 4), [])
    alone = run(steps, shuffled(texts[:1], 5), [])
    for key, logits in together.items():
        assert torch.equal(logits, again[key])
        if key in alone:
            assert torch.equal(logits, alone[key])


def test_weights_of_half_the_bytes_are_the_weights_rounded() -> None:
    model, rounded = tiny_model(), tiny_model()
    with torch.no_grad():
        for name, weight in rounded.network.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.copy_(weight.bfloat16().float())
    texts = texts_of(model)
    half = run(CompiledSteps(model, 3, ROOM, "bf16"), shuffled(texts, 1), [])
    whole = run(CompiledSteps(rounded, 3, ROOM, "same"), shuffled(texts, 1), [])
    same = run(CompiledSteps(model, 3, ROOM, "same"), shuffled(texts, 1), [])

    def apart(other: dict[tuple[int, int], Tensor]) -> float:
        return float(torch.stack([half[key] - other[key] for key in half]).square().mean())

    print(apart(whole) ** 0.5, apart(same) ** 0.5)
    # Keys and values are rounded too; that is less than what the weights are.
    assert 0 < apart(whole) < apart(same) / 2


def test_steps_are_compiled_where_they_can_be(tiny: Model) -> None:
    assert isinstance(steps_of(tiny, slots=2, room=16), CompiledSteps)
    assert isinstance(steps_of(tiny_model("gpt2"), slots=2, room=16), ModuleSteps)
    with pytest.raises(InputError, match="room at most"):
        steps_of(tiny, slots=2, room=100_000)


@pytest.mark.parametrize(("model", "steps"), variants())
@pytest.mark.parametrize("edited", [None, "resid_pre.1", "attn_out.1", "resid_post.1", "resid_post.2"])
def test_looks_see_what_visits_see_after_the_edits(model: Model, steps: Steps, edited: str | None) -> None:
    ids = np.arange(3, 12)
    tokens = Tokens(ids, np.repeat([0, 1], [5, 4]), np.concatenate([np.arange(5), np.arange(4)]))
    kinds = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")
    names = [f"{kind}.{layer}" for layer in range(model.num_layers) for kind in kinds]
    edits: list[tuple[Site, Visit]] = [] if edited is None else [(Site.parse(edited), lambda x, _: x * 1.5)]

    def gathering(found: dict[str, dict[int, Tensor]]) -> list[tuple[Site, Visit]]:
        def gather(name: str) -> Visit:
            def visit(x: Tensor, which: np.ndarray) -> None:
                for row, number in zip(x.clone(), which.tolist(), strict=True):
                    found.setdefault(name, {})[number] = row

            return visit

        return [(Site.parse(name), gather(name)) for name in [*names, "resid_final", "embed"]]

    visited: dict[str, dict[int, Tensor]] = {}
    looked: dict[str, dict[int, Tensor]] = {}
    one = steps.step(tokens, [4, 8], [*edits, *gathering(visited)])
    other = steps.step(tokens, [4, 8], edits, gathering(looked))
    assert torch.equal(one, other)
    assert visited.keys() == looked.keys()
    for name, rows in visited.items():
        assert rows.keys() == looked[name].keys() == set(range(9))
        assert all(torch.equal(row, looked[name][number]) for number, row in rows.items()), name
