"""What a model or a stranger writes is shown as text: it never runs, links nowhere and reorders nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.studio.test_chat import answering, ask, said, wait_done

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

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
    shown = "⟨RLO⟩esrever⟨PDF⟩ ⟨LRI⟩x⟨PDI⟩ ⟨RLM⟩y"
    assert said(page) == shown
    page.locator(".side .tk").click()
    assert shown in page.get_by_role("dialog").inner_text()
    assert not set(REORDERS) & set("\u202e\u202c\u2066\u2069\u200f") & set(page.locator("#app").inner_text())


def test_names_of_recipes_are_text(page: Page, address: str) -> None:
    page.route("**/v1/recipes", lambda route: route.fulfill(json=[*ATTACKS, REORDERS]))
    page.goto(address)
    page.get_by_role("button", name="Recipes").click()
    page.get_by_role("dialog").get_by_text(ATTACKS[0]).wait_for()
    assert "⟨RLO⟩" in page.get_by_role("dialog").inner_text()
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
