from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from pellucid.serving.served import Served
from tests.serving.conftest import running

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route


def ask(page: Page, text: str = "Tell me of the rain.") -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def shorter(page: Page, tokens: int = 24) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Length").fill(str(tokens))
    page.keyboard.press("Escape")


def wait_done(page: Page) -> None:
    page.locator(".side").first.wait_for()
    page.locator("[aria-busy=true]").first.wait_for(state="detached")


def said(page: Page, side: str = ".side") -> str:
    """What an answer shows, also where it is out of sight and so not laid out."""
    return "".join(page.locator(f"{side} .tk").all_text_contents()).strip()


def answering(
    texts: list[str],
    features: Callable[[str], list[dict[str, Any]]] = lambda _text: [],
    *,
    used: int | None = None,
) -> Any:
    """A server's answer of these tokens, in place of a model's; `used` with its prompt, up to the room."""

    def answer(route: Route) -> None:
        chunks: list[dict[str, Any]] = [
            {"choices": [{"delta": {"content": t}}], "pellucid": {"token": t, "features": features(t)}}
            for t in texts
        ]
        receipts = [{"dictionary": "tiny-features", "error": texts[0]}]
        last = {"prompt": [], "receipts": receipts}
        reason = "stop" if used is None else "length"
        chunks.append({"choices": [{"delta": {}, "finish_reason": reason}], "pellucid": last})
        if used is not None:
            chunks.append({"choices": [], "usage": {"total_tokens": used}})
        body = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    return answer


def test_an_answer_is_seen_pinned_turned_and_proved(page: Page, address: str) -> None:
    page.goto(address)
    shorter(page)
    ask(page)
    wait_done(page)
    assert 2 < page.locator(".side .tk").count() <= 24
    # What was asked is tinted too, once it has been read.
    assert "".join(page.locator(".asked .tk").all_text_contents()).strip() == "Tell me of the rain."
    # A click holds the card of a token; its first feature is pinned.
    page.locator(".side .tk").nth(2).click()
    card = page.get_by_role("dialog")
    assert card.locator("li").count() > 1
    card.get_by_role("button", name=re.compile("^Pin feature")).first.click()
    page.keyboard.press("Escape")
    pin = page.locator(".pin")
    pin.get_by_text(re.compile(r"peak \d\.\d\d · on \d+\s% of \d+ tokens, usually [\d.]+\s%")).wait_for()
    assert page.locator(".side .tk.p0").count() > 0
    # Comparing, a slider writes the turned answer again, beside the plain one.
    page.get_by_role("checkbox", name=re.compile("Compare")).check()
    slider = pin.get_by_role("slider")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    page.get_by_label("The answer, turned").get_by_label("Receipt").wait_for()
    wait_done(page)
    receipt = page.get_by_label("Receipt").inner_text()
    assert "1.20 ×" in receipt
    assert re.search(r"moved by \d+\.\d\d nats per token", receipt)
    plain, turned = (said(page, f"[aria-label='The answer, {name}']") for name in ("plain", "turned"))
    assert plain != turned
    # And lets go of it.
    pin.get_by_role("button", name="let go").click()
    page.locator(".side").nth(1).wait_for(state="detached")


def test_keys_move_along_the_tokens(page: Page, address: str) -> None:
    page.goto(address)
    shorter(page, 12)
    ask(page)
    wait_done(page)
    page.get_by_label(re.compile("^The answer;")).focus()
    page.keyboard.press("ArrowRight")
    first = page.get_by_role("dialog").get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (
        page.get_by_role("dialog").get_attribute("aria-label") != first or page.locator(".tk.at").count() == 1
    )
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#card') !== null")
    page.keyboard.press("Escape")
    assert page.locator("#card").count() == 0


def test_a_recipe_is_kept_and_used(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search features").fill("5")
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    slider = page.locator(".pin").get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    page.get_by_role("button", name="Recipes").click()
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Keep").click()
    page.get_by_text("Kept as mine").wait_for()
    kept = httpx.get(f"{address}/v1/recipes/mine").json()
    assert [(e["feature"], e["kind"]) for e in kept["edits"]] == [(5, "set")]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Unpin feature 5").click()
    page.get_by_role("button", name="Recipes").click()
    page.get_by_role("button", name="Use", exact=True).click()
    page.get_by_text("turned features: 1").wait_for()
    page.get_by_role("button", name="Remove the recipe mine").click()
    page.get_by_text("There is none yet.").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".pin").count() == 1


def test_a_conversation_travels_as_a_link_and_as_a_file(page: Page, address: str, tmp_path: Path) -> None:
    page.route("**/v1/chat/completions", answering([" The", " rain", " falls", "."]))
    page.goto(address)
    ask(page)
    wait_done(page)
    assert said(page) == "The rain falls."
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link").input_value()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as a file").click()
    path = tmp_path / "kept.json"
    waiting.value.save_as(path)
    assert json.loads(path.read_text())["turns"][0]["user"] == "Tell me of the rain."
    page.goto("about:blank")
    page.goto(link)
    # Its texts are read again, so that they have features.
    page.locator(".side .tk[class*=' s']").first.wait_for()
    assert said(page) == "The rain falls."
    page.get_by_role("button", name="New chat").click()
    page.get_by_role("button", name="Share").click()
    page.get_by_label("Open a file").set_input_files(path)
    page.locator(".side .tk[class*=' s']").first.wait_for()
    assert said(page) == "The rain falls."


def test_what_is_no_conversation_is_refused_in_words(page: Page, address: str) -> None:
    page.goto(f"{address}/#c=AAAA")
    page.get_by_role("alert").get_by_text("the link is damaged").wait_for()


def test_a_conversation_that_fills_its_room_says_so(
    browser: BrowserContext, served: Served, pages: Path
) -> None:
    from pellucid.serving.pages import mount

    with running(served, lambda app: mount(app, pages), room=120) as small:
        page = browser.new_page()
        page.goto(small)
        page.route("**/v1/chat/completions", answering([" a", " b"], used=90))
        ask(page)
        page.get_by_text("90 of 120 tokens").wait_for()
        page.unroute("**/v1/chat/completions")
        page.route("**/v1/chat/completions", answering([" a", " b"], used=120))
        ask(page)
        page.get_by_text("2 tokens", exact=False).filter(has_text="filled its room").wait_for()
        page.get_by_text("filled its room of 120 tokens").wait_for()
        page.unroute("**/v1/chat/completions")
        page.get_by_role("textbox", name="Message").fill("More")
        assert page.get_by_role("button", name="Send").is_disabled()
        page.get_by_role("button", name="New chat").first.click()
        ask(page, "Tell me of the rain in the town. " * 40)
        page.get_by_role("alert").get_by_text(
            re.compile("there is room for 120.*new conversation")
        ).wait_for()
        page.close()


def test_an_answer_is_stopped(page: Page, address: str) -> None:
    def slow(route: Any) -> None:  # never answered: the page must be able to give up
        del route

    page.goto(address)
    page.route("**/v1/chat/completions", slow)
    ask(page)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped after 0 tokens").wait_for()
