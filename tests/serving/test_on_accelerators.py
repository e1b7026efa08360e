"""A server whose model is on an accelerator answers as one on the processor does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch

from pellucid.models.model import Model
from pellucid.models.steps import CompiledSteps
from pellucid.serving.served import Served
from tests.serving.conftest import running

On = Callable[..., Model]
WATCH = {"watch": [{"top": 3, "features": [7]}], "prompt": 3}
EDITS = {"edits": [{"feature": 5, "strength": 2.0}, {"feature": 9, "kind": "add", "strength": 1.0}]}
ASKED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9, "seed": 4, "pellucid": WATCH},
    {"pellucid": {**WATCH, **EDITS}},
    {"pellucid": EDITS},
    {"top_p": 0.6, "temperature": 1.0, "seed": 1, "logprobs": True, "top_logprobs": 3},
    {"messages": [{"role": "user", "content": "The rain in the town. " * 20}], "pellucid": WATCH},
]
CLOSE = {"rel": 2e-3, "abs": 2e-3}


def moved(served: Served, model: Model, place: str) -> Served:
    """The same with another model, and dictionaries somewhere."""
    found = {
        name: replace(d, model=model, dictionary=d.dictionary.to(place))
        for name, d in served.dictionaries.items()
    }
    return Served(model, found)


def ask(address: str, model: str, options: dict[str, Any]) -> Any:
    chat = [{"role": "user", "content": "Tell me about the rain in the town."}]
    body = {"model": model, "messages": chat, "max_tokens": 10, "temperature": 0, **options}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    told["usage"].pop("prompt_tokens_details")  # what was held of a prompt depends on who came before
    return {name: told[name] for name in ("choices", "usage", "pellucid") if name in told}


def close(found: Any, expected: Any) -> None:
    """Whether JSON is the same, but for digits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            close(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, **CLOSE)
    else:
        assert found == expected


@pytest.fixture(params=["dictionary beside the model", "dictionary on the processor"])
def place(request: pytest.FixtureRequest, device: str) -> str:
    """Where dictionaries lie while the model is on the device."""
    return device if "beside" in request.param else "cpu"


@pytest.fixture
def here(mapped: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on the processor that steps and proves as one on an accelerator does."""
    monkeypatch.setattr(CompiledSteps, "takes", lambda _model: False)
    with running(mapped, slots=1) as found:
        yield found


@pytest.fixture
def there(mapped: Served, device: str, place: str, on: On) -> Iterator[str]:
    """The address of such a server."""
    with running(moved(mapped, on(device, mapped.model), place), slots=4) as found:
        yield found


def test_many_at_once_are_answered_as_each_alone(here: str, there: str, mapped: Served) -> None:
    """Plainly, watched, edited and proved."""
    with ThreadPoolExecutor(len(ASKED)) as pool:
        found = list(pool.map(lambda options: ask(there, mapped.model.name, options), ASKED))
    for options, mine in zip(ASKED, found, strict=True):
        close(mine, ask(here, mapped.model.name, options))


def test_texts_are_inspected_and_features_searched(here: str, there: str) -> None:
    for path, body in (
        ("inspect", {"text": "the rain and the moon over the town", "watch": [{"top": 3}]}),
        ("inspect", {"messages": [{"role": "user", "content": "Dogs bark"}], "watch": [{"features": [7]}]}),
        ("features/search", {"by": "prompt", "text": "the rain and the moon", "count": 5}),
        ("features/search", {"by": "effect", "words": ["the"], "count": 5}),
        ("features/search", {"by": "direction", "feature": 7, "count": 5}),
    ):
        expected, found = (httpx.post(f"{a}/v1/{path}", json=body, timeout=60) for a in (here, there))
        assert (found.status_code, expected.status_code) == (200, 200), found.text
        close(found.json(), expected.json())
    expected, found = (
        httpx.get(f"{a}/v1/features/3", params={"bands": 2}, timeout=60) for a in (here, there)
    )
    close(found.json(), expected.json())


def test_in_bf16_edits_are_written_and_proved(mapped: Served, device: str, place: str, on: On) -> None:
    served = moved(mapped, on(device, mapped.model, torch.bfloat16), place)
    with running(served) as address:
        told = ask(address, served.model.name, {"pellucid": {**WATCH, **EDITS}})
    for receipt in told["pellucid"][0]["receipts"]:
        assert receipt["kl"] > 0
        assert receipt["kept"] < 0.05
