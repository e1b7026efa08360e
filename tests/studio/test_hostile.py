"""What a model or a stranger writes is shown as text: it never runs, links nowhere and reorders nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.studio.test_chat import answering, ask, said, wait_done

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

ATTACKS = [
    "<img src=x onerror=\"document.title='run'\">",
    "<script>document.title='run'</script>",
    "<svg onload=\"document.title='run'\"></svg>",
    "<iframe srcdoc=\"<script>parent.document.title='run'</script>\"></iframe>",
    "[click](javascript:document.title='run')",
    "https://example.com/",
    "<style>body{display:none}</style>",
    "{{constructor.constructor('document.title=1')()}}",
]
REORDERS = "\u202eesrever\u202c \u2066x\u2069 \u200fy"


NAMED = "⟨RLO⟩esrever⟨PDF⟩ ⟨LRI⟩x⟨PDI⟩ ⟨RLM⟩y"
PART = "◌"
"""Stands for a token that is part of a character."""
MARKS = set("\u202e\u202c\u2066\u2069\u200f")


def features(text: str) -> list[dict[str, Any]]:
    return [
        {
            "dictionary": "tiny-features",
            "feature": 3,
            "activation": 2.0,
            "share": 0.7,
            "label": text,
            "promotes": [text],
        },
        {
            "dictionary": "tiny-features",
            "feature": 4,
            "activation": 1.0,
            "share": 0.4,
            "label": None,
            "promotes": [text],
        },
    ]


def unharmed(page: Page) -> None:
    assert page.title() != "run"
    for made in (
        "img[src=x]",
        "iframe",
        "svg[onload]",
        "a[href^='javascript']",
        "a[href*='example.com']",
        "#app style",
        "#app script",
    ):
        assert page.locator(made).count() == 0
    assert page.locator("header.top").is_visible()


def test_answers_labels_and_promoted_tokens_are_text(page: Page, address: str) -> None:
    page.route("**/v1/chat/completions", answering(ATTACKS, features))
    page.goto(address)
    ask(page, ATTACKS[0])
    wait_done(page)
    assert said(page) == "".join(ATTACKS)
    assert ATTACKS[0] in page.locator(".asked").inner_text()
    for number, attack in enumerate(ATTACKS):
        page.keyboard.press("Escape")
        page.locator(".side .tk").nth(number).click()
        assert attack in page.get_by_role("dialog").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Pin feature 3").click()
    assert ATTACKS[0] in page.locator(".pin").inner_text()
    assert ATTACKS[0] in page.get_by_label("Receipt").inner_text()
    unharmed(page)


def test_marks_that_reorder_text_are_shown_by_name(page: Page, address: str) -> None:
    page.route("**/v1/chat/completions", answering([REORDERS], features))
    page.goto(address)
    ask(page, REORDERS)
    wait_done(page)
    assert said(page) == NAMED
    page.locator(".side .tk").click()
    assert NAMED in page.get_by_role("dialog").inner_text()
    assert not MARKS & set(page.locator("#app").inner_text())


def test_names_of_recipes_are_text(page: Page, address: str) -> None:
    page.route("**/v1/recipes", lambda route: route.fulfill(json=[*ATTACKS, REORDERS]))
    page.goto(address)
    page.get_by_role("button", name="Recipes").click()
    page.get_by_role("dialog").get_by_text(ATTACKS[0]).wait_for()
    assert "⟨RLO⟩" in page.get_by_role("dialog").inner_text()
    unharmed(page)


def hostile(value: Any, text: str) -> Any:
    """What a server told, with every text in it replaced; what names a kind or a place is left."""
    if isinstance(value, dict):
        kept = {"kind", "site", "dictionary"}
        return {k: v if k in kept else hostile(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v, text) for v in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", [*ATTACKS, REORDERS], ids=lambda t: t[:9])
def test_what_an_atlas_holds_is_text(page: Page, address: str, text: str) -> None:
    """Labels, examples, tokens, sources, clusters, neighbours: on the page of a feature and on the map."""

    def answer(route: Route) -> None:
        route.fulfill(json=hostile(route.fetch().json(), text))

    page.route(re.compile(r"/v1/features/\d+"), answer)
    page.route(re.compile(r"/v1/map\?"), answer)
    shown = NAMED if text == REORDERS else text
    page.goto(f"{address}/features/tiny-features/7")
    page.get_by_role("heading", name="On the map").wait_for()
    assert shown in page.locator("h1").inner_text()
    for part in (".examples", ".chips", ".near", ".minimap + p"):
        assert shown in page.locator(part).first.inner_text(), part
    page.get_by_label("Show").select_option(label="by lot, weakest fifth")
    page.locator(".examples li").first.wait_for()
    unharmed(page)
    page.goto(f"{address}/map?feature=7")
    chosen = page.get_by_label("The chosen feature")
    chosen.get_by_text(shown).first.wait_for()
    page.get_by_text("Clusters").click()
    assert shown in page.locator("details").inner_text()
    unharmed(page)
    assert not MARKS & set(page.locator("#app").inner_text())


def test_what_is_found_is_text(page: Page, address: str) -> None:
    def answer(route: Route) -> None:
        found = route.fetch().json()
        texts = [*ATTACKS, REORDERS]
        found["features"] = [
            {**found["features"][0], "feature": i, "label": t if i % 2 else None, "promotes": [t]}
            for i, t in enumerate(texts)
        ]
        route.fulfill(json=found)

    page.route("**/v1/features/search", answer)
    page.goto(address)
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search features").fill("rain")
    options = page.get_by_role("listbox").get_by_role("option")
    options.first.wait_for()
    told = options.all_inner_texts()
    for text, option in zip([*ATTACKS, NAMED], told, strict=True):
        assert text in option
    unharmed(page)
    assert not MARKS & set("".join(told))


@pytest.mark.parametrize("text", [*ATTACKS, REORDERS], ids=lambda t: t[:9])
def test_names_and_texts_of_files_are_text(page: Page, address: str, text: str) -> None:
    name = f"{text.replace('/', '|')}.txt"
    page.goto(f"{address}/inspect")
    chosen = page.get_by_label("Open a file")
    chosen.set_input_files({"name": name, "mimeType": "text/plain", "buffer": b"x" * 2_000_000})
    alert = page.get_by_role("alert")
    alert.get_by_text("is too large").wait_for()
    assert not MARKS & set(alert.inner_text())
    if text != REORDERS:
        assert name in alert.inner_text()
    chosen.set_input_files({"name": name, "mimeType": "text/plain", "buffer": f"the rain {text}".encode()})
    page.locator(".heat li").first.wait_for()
    read = "".join(page.locator(".read .tk").all_text_contents())
    assert (NAMED if text == REORDERS else text) in read.replace(PART, "")
    unharmed(page)


@pytest.mark.parametrize("text", [*ATTACKS, REORDERS], ids=lambda t: t[:9])
def test_a_conversation_that_a_stranger_made_is_text(page: Page, address: str, text: str) -> None:
    made = {
        "format": 1,
        "model": text,
        "dictionary": text,
        "system": text,
        "turns": [{"user": text, "plain": text}],
        "pins": [],
    }
    page.goto(address)
    page.get_by_role("button", name="Share").click()
    file = {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(made).encode()}
    page.get_by_label("Open a file").set_input_files(file)
    page.locator(".side .tk").first.wait_for()
    shown = NAMED if text == REORDERS else text
    assert said(page).replace(PART, "") == shown
    assert shown in page.locator(".asked").text_content().replace(PART, "")
    unharmed(page)


@pytest.mark.parametrize("text", [*ATTACKS, REORDERS], ids=lambda t: t[:9])
def test_what_a_server_says_is_wrong_is_text(page: Page, address: str, text: str) -> None:
    page.route("**/v1/chat/completions", lambda r: r.fulfill(status=400, json={"error": {"message": text}}))
    page.route("**/v1/inspect", lambda r: r.fulfill(status=400, json={"error": {"message": text}}))
    shown = NAMED if text == REORDERS else text
    page.goto(address)
    ask(page)
    page.locator(".side [role=alert]").get_by_text(shown).wait_for()
    page.goto(f"{address}/inspect")
    page.get_by_role("button", name="A scene").click()
    page.get_by_role("alert").get_by_text(shown).wait_for()
    unharmed(page)


MISTAKES = {
    "markup": "() => { document.body.innerHTML = '<b>x</b>' }",
    "a script": "() => { document.createElement('script').textContent = '1' }",
    "an address of a script": "() => { document.createElement('script').src = 'https://example.com/x.js' }",
    "a frame": "() => { document.createElement('iframe').srcdoc = '<b>x</b>' }",
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_the_policy_refuses_what_a_mistake_would_run(
    browser: BrowserContext, address: str, mistake: str
) -> None:
    page = browser.new_page()
    page.goto(address)
    with pytest.raises(Exception, match="Trusted"):
        page.evaluate(mistake)
    page.close()


def test_the_policy_refuses_styles_in_markup_and_other_hosts(browser: BrowserContext, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    styled = """() => {
        document.body.setAttribute('style', 'opacity: 0.25');
        return getComputedStyle(document.body).opacity;
    }"""
    assert page.evaluate(styled) == "1"
    asked = "() => fetch('http://127.0.0.1:9/').then(() => 'asked', e => e.message)"
    page.evaluate(
        "() => addEventListener('securitypolicyviolation', e => { window.refused = e.violatedDirective })"
    )
    page.evaluate(asked)
    assert page.evaluate("window.refused") == "connect-src"
    page.close()
