from __future__ import annotations

from typing import TYPE_CHECKING

from tests.studio.test_chat import ask, shorter, wait_done

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_busy_server_says_when_to_come_back(page: Page, address: str) -> None:
    page.route(
        "**/v1/chat/completions",
        lambda r: r.fulfill(
            status=429,
            headers={"Retry-After": "2"},
            json={"error": {"message": "Too many answers are waiting."}},
        ),
    )
    page.goto(address)
    ask(page)
    page.get_by_text("Too many answers are waiting.").wait_for()
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="write again").click()
    page.locator(".side .tk").first.wait_for()


def test_a_server_that_is_gone_is_said_and_waited_for(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("textbox", name="Message").wait_for()
    page.context.set_offline(True)
    try:
        ask(page)
        page.get_by_role("alert").filter(has_text="The server does not answer").first.wait_for()
    finally:
        page.context.set_offline(False)
    page.get_by_role("button", name="Try again").first.click()
    page.locator(".banner").wait_for(state="detached")


def test_a_broken_stream_keeps_what_came(page: Page, address: str) -> None:
    body = 'data: {"choices":[{"delta":{"content":"half"}}],"pellucid":{"token":"half","features":[]}}\n\n'
    page.route(
        "**/v1/chat/completions", lambda r: r.fulfill(status=200, content_type="text/event-stream", body=body)
    )
    page.goto(address)
    ask(page)
    page.get_by_text("The connection broke").wait_for()
    assert page.locator(".side .tk").all_text_contents() == ["half"]


def test_a_server_with_keys_asks_for_one(page: Page, address: str) -> None:
    page.route(
        "**/v1/models",
        lambda r: (
            r.continue_()
            if r.request.headers.get("authorization") == "Bearer good"
            else r.fulfill(status=401, json={"error": {"message": "No key came."}})
        ),
    )
    page.goto(address)
    page.get_by_label("This server wants a key.").fill("good")
    page.get_by_role("button", name="Use it").click()
    page.get_by_role("textbox", name="Message").wait_for()
    page.evaluate("sessionStorage.clear()")


def test_pages_that_are_not_there_say_so(page: Page, address: str) -> None:
    page.goto(f"{address}/features/tiny-features/99999")
    page.get_by_text("99999").first.wait_for()
    page.get_by_role("alert").wait_for()
    page.goto(f"{address}/features/other/1")
    page.get_by_role("alert").get_by_text("is not served here").wait_for()


def test_the_conversation_goes_on_after_another_page(page: Page, address: str) -> None:
    page.goto(address)
    shorter(page, 8)
    ask(page)
    wait_done(page)
    count = page.locator(".side .tk").count()
    page.get_by_role("link", name="Inspect").click()
    page.get_by_role("heading", name="Inspect").wait_for()
    page.go_back()
    assert page.locator(".side .tk").count() == count > 0
