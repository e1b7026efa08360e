from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pellucid.serving.served import Served

CHAT = [{"role": "user", "content": "Tell me about the rain."}]


def test_a_recipe_is_kept_used_and_removed(
    address: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))
    edits = [{"feature": 5, "strength": 2.0}]

    def answer(extension: object) -> str:
        body = {"messages": CHAT, "max_tokens": 12, "temperature": 0, "pellucid": extension}
        found = httpx.post(f"{address}/v1/chat/completions", json=body)
        assert found.status_code == 200, found.text
        return str(found.json()["choices"][0]["message"]["content"])

    kept = httpx.put(f"{address}/v1/recipes/mine", json={"edits": edits, "note": "For a test."})
    assert kept.status_code == 204
    assert httpx.get(f"{address}/v1/recipes").json() == ["mine"]
    assert httpx.get(f"{address}/v1/recipes/mine").json()["note"] == "For a test."
    assert answer({"recipe": "mine"}) == answer({"edits": edits}) != answer({})
    assert httpx.delete(f"{address}/v1/recipes/mine").status_code == 204
    for path in ("mine", "..%2Fkeys", "%2e%2e", "a%00b", "UPPER"):
        assert httpx.get(f"{address}/v1/recipes/{path}").status_code in (400, 404)
        assert httpx.delete(f"{address}/v1/recipes/{path}").status_code in (400, 404, 405)
    refused = httpx.put(f"{address}/v1/recipes/Bad%20name", json={"edits": edits})
    assert refused.status_code == 400
    refused = httpx.put(f"{address}/v1/recipes/fine", json={"edits": [{"feature": 48}]})
    assert refused.status_code == 400
    assert list((tmp_path / "recipes").iterdir()) == []
