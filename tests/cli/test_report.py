"""The page of the demo: what it embeds, what cannot break out of it, and that it draws in a browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.report import render

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)> {{data}} & \" '  "
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def text(*values: float | None) -> dict[str, Any]:
    return {"pieces": ["The", " sea", "\n", " was", " calm"], "values": list(values)}


DATA: dict[str, Any] = {
    "title": "Inside a small model",
    "made": "2026-11-23T21:00:00Z",
    "command": "pellucid demo",
    "seconds": 171.5,
    "model": {"name": "tiny", "digest": "sha256:ab", "layers": 30, "width": 576, "precision": "bf16"},
    "dictionary": {
        "name": "first", "digest": "sha256:cd", "site": "resid_post.13", "features": 16384, "tokens": 7000000,
        "quality": [
            {"name": "variance unexplained", "value": 0.14, "random": 0.93, "pca": 0.41, "better": "lower"},
            {"name": "cross-entropy recovered", "value": 0.97, "random": -0.2, "pca": 0.8, "better": None},
            {"name": "dead features", "value": 0.031, "random": None, "pca": None, "better": "lower"},
        ],
    },
    "reading": {
        "pieces": ["The", " sea", "\n", " was", " calm"],
        "tops": [[], [[512, 34.25, 0.83], [7, 1.5, 0.04]], [[7, 2.25, 0.06]], [], [[512, 8.5, 0.21]]],
        "strongest": [{"feature": 512, "peak": 0.83}, {"feature": 7, "peak": 0.06}],
    },
    "features": {
        "512": {
            "promotes": ["ocean", " tide"], "frequency": 0.0012, "max": 41.25,
            "examples": [text(0, 0.95, 0, 0, 0.1)],
        },
    },
    "found": [
        {
            "concept": "music", "feature": 88, "score": 0.93, "separation": {"for": 0.91, "against": 0.02},
            "promotes": ["song"],
        },
    ],
    "steering": {
        "concept": "the sea", "feature": 512, "strength": 6.0, "prompt": "A day off?",
        "plain": text(0, 0.5, 0, 0, 0), "steered": text(0.25, 1.125, None, 0, 0.75),
        "receipt": {"asked": 6.0, "reached": 5.97, "kl": 2.31, "tokens_edited": 40, "error_kept": True},
        "effect": [
            {"name": "as it is", "hits": 1, "samples": 20, "low": 0.009, "high": 0.236, "perplexity": 7.1},
            {"name": "vector", "hits": 16, "samples": 20, "low": 0.584, "high": 0.919, "perplexity": 22.0},
            {"name": "feature", "ours": True, "hits": 17, "samples": 20, "low": 0.64, "high": 0.948,
             "perplexity": 19.8},
        ],
        "pairs": [{"prompt": "Your town?", "plain": "It is small.", "steered": "It is by the sea."}],
    },
}  # fmt: skip


class Page(HTMLParser):
    """What a parser of HTML makes of the page: its elements, and the text of each script and of the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open, data))

    def text_of(self, tag: str) -> list[str]:
        return [text for open_tag, text in self.texts if open_tag == tag]


def embedded(page: str) -> Any:
    return json.loads(Page(page).text_of("script")[0])


def with_hostile_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_hostile_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_hostile_text(item) for item in value]
    return HOSTILE + value if isinstance(value, str) else value


def parts_left_out() -> list[Any]:
    cases = [pytest.param({"title": "Bare"}, id="only the title"), pytest.param({}, id="nothing")]
    for key, value in DATA.items():
        cases.append(pytest.param({**DATA, key: None}, id=f"{key} is None"))
        for inner in value if isinstance(value, dict) else ():
            cases.append(pytest.param({**DATA, key: {**value, inner: None}}, id=f"{key}.{inner} is None"))
    return cases


def drawn(page: str, folder: Path) -> str:
    """The page after its script has run, as a browser writes it back."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    assert BROWSER is not None
    quiet = ("background-networking", "component-update", "sync", "gpu")
    flags = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{part}" for part in quiet)]
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_embeds_every_value() -> None:
    assert embedded(render(DATA)) == DATA


def test_leaves_the_data_as_it_was() -> None:
    data = copy.deepcopy(DATA)
    render(data)
    assert data == DATA


def test_hostile_text_stays_text() -> None:
    page = render(with_hostile_text(DATA))
    harmless, hostile = Page(render(DATA)), Page(page)
    assert hostile.tags == harmless.tags
    assert "".join(hostile.text_of("title")) == HOSTILE + DATA["title"]
    assert embedded(page)["steering"]["prompt"] == HOSTILE + DATA["steering"]["prompt"]


def test_the_json_holds_no_opening_of_an_element() -> None:
    block = re.search(r'<script type="application/json" id="data">(.*)', render(with_hostile_text(DATA)))
    assert block is not None
    assert block[1].count("<") == 1
    assert block[1].endswith("</script>")


def test_a_placeholder_in_the_data_is_not_filled() -> None:
    assert Page(render({"title": "{{data}} and {{title}}"})).text_of("h1")[0] == "{{data}} and {{title}}"


@pytest.mark.parametrize("data", parts_left_out())
def test_parts_may_be_absent(data: dict[str, Any]) -> None:
    assert set(embedded(render(data))) == set(data)


def test_numbers_that_are_not_finite_are_absent() -> None:
    figures = {"value": float("nan"), "random": float("inf"), "pca": 0.5}
    page = render({"title": "x", "dictionary": {"quality": [{"name": "KL (nats)", **figures}]}})
    quality = embedded(page)["dictionary"]["quality"][0]
    assert (quality["value"], quality["random"], quality["pca"]) == (None, None, 0.5)


def test_refuses_what_json_cannot_say() -> None:
    with pytest.raises(TypeError):
        render({"title": "x", "seconds": object()})


def test_asks_the_network_for_nothing() -> None:
    template = resources.files("pellucid.cli").joinpath("report.html").read_text(encoding="utf-8")
    asks = r"https?:|//[a-z]|url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML|\beval\("
    assert not re.search(asks, template)
    page = Page(render(DATA))
    assert {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed"} == set()
    assert not any("src" in attributes or "href" in attributes for _, attributes in page.tags)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_draws_every_section_in_a_browser(tmp_path: Path) -> None:
    page = drawn(render(DATA), tmp_path)
    sections = {tag["id"]: tag for name, tag in Page(page).tags if name == "section"}
    assert set(sections) == {"reading", "found", "steering", "quality", "again"}
    assert not [name for name, tag in sections.items() if "hidden" in tag]
    shown = " ".join(text for tag, text in Page(page).texts if tag not in ("script", "style"))
    for figure in (
        "16,384 features", "7 million tokens", "34.25", "83 %", "0.12 % of tokens, 1 in 833", "41.3", "0.93",
        "with 0.91", "without 0.02", "6.00", "5.97", "2.31", "1 of 20", "1 to 24 %", "16 of 20", "58 to 92 %",
        "17 of 20", "64 to 95 %", "7.1", "22.0", "19.8", "0.14", "0.41", "0.97", "\N{MINUS SIGN}0.20",
        "0.031", "2 min 52 s", "pellucid demo", "sha256:cd",
    ):  # fmt: skip
        assert figure in shown, figure


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_hostile_text_is_shown_as_text_in_a_browser(tmp_path: Path) -> None:
    page = Page(drawn(render(with_hostile_text(DATA)), tmp_path))
    assert sum(name == "script" for name, _ in page.tags) == 2
    assert not [name for name, _ in page.tags if name == "img"]
    assert not [a for name, a in page.tags if name == "section" and "hidden" in a]
