from __future__ import annotations

from typing import Any

import httpx
import pytest
import torch

from pellucid.serving.served import Served


def test_dictionaries_and_features_are_told(address: str, served: Served) -> None:
    (dictionary,) = httpx.get(f"{address}/v1/dictionaries").json()
    assert dictionary == {"name": "tiny-features", "site": "resid_post.1", "features": 48, "atlas": []}
    feature = httpx.get(f"{address}/v1/features/7", params={"dictionary": "tiny-features"}).json()
    assert (feature["feature"], feature["maximum"], feature["frequency"]) == (7, 3.0, None)
    for path, status in (("48", 404), ("-1", 404), ("x", 400)):
        found = httpx.get(f"{address}/v1/features/{path}")
        assert found.status_code == status
        assert "error" in found.json()


def test_a_text_is_inspected_token_by_token(address: str, served: Served) -> None:
    text = "The rain in the town. " * 8
    body = {"text": text, "watch": [{"top": 6, "features": [3]}]}
    tokens = httpx.post(f"{address}/v1/inspect", json=body).json()["tokens"]
    model, dictionary = served.model, served.dictionary(None).dictionary
    ids = model.encode_text(text)
    assert "".join(t["token"] for t in tokens) == text
    activations = model.capture(torch.tensor([ids]), [dictionary.site])[dictionary.site][0]
    dense = dictionary.encode(activations).dense()
    for row, token in enumerate(tokens):
        told = {f["feature"]: f["activation"] for f in token["features"]}
        assert 3 in told
        assert told == pytest.approx({f: float(dense[row, f]) for f in told}, abs=1e-3)
        assert set(dense[row].nonzero()[:, 0].tolist()) <= set(told)


@pytest.mark.parametrize(
    "body", [{}, {"text": ""}, {"text": "a", "messages": []}, {"text": "a", "watch": []}]
)
def test_bad_input_is_a_clear_error(address: str, body: dict[str, Any]) -> None:
    found = httpx.post(f"{address}/v1/inspect", json=body)
    assert found.status_code == 400
    assert found.json()["error"]["message"]


def test_the_document_describes_every_route_and_its_errors(address: str) -> None:
    document = httpx.get(f"{address}/openapi.json").json()
    for path in (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/inspect",
        "/v1/recipes/{name}",
    ):
        for operation in document["paths"][path].values():
            assert {"400", "401", "403", "429"} <= set(operation["responses"])
            assert "422" not in operation["responses"]
            assert operation["description"]
    wrong = httpx.patch(f"{address}/v1/recipes/mine")
    assert wrong.status_code == 405
    assert set(wrong.headers["allow"].split(", ")) >= {"GET", "PUT", "DELETE"}
    extension = document["components"]["schemas"]["Extension"]["properties"]
    assert {"watch", "edits", "receipts", "recipe", "prompt"} == set(extension)
