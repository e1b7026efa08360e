"""axe-core finds no serious fault on any page, in light and in dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.studio.conftest import STUDIO
from tests.studio.test_chat import ask, shorter, wait_done

if TYPE_CHECKING:
    from playwright.sync_api import Page


def faults(page: Page) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate((STUDIO / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {n['target']} {n.get('failureSummary', '')}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault(page: Page, address: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    shorter(page, 16)
    assert faults(page) == []
    ask(page)
    wait_done(page)
    page.locator(".side .tk").nth(3).click()
    page.get_by_role("dialog").get_by_role("button", name="Pin feature").first.click()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search features").fill("rain")
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    assert faults(page) == []
    for path, there in (
        ("/features/tiny-features/7", ".examples li"),
        ("/map", ".plane"),
        ("/inspect", "form"),
    ):
        page.goto(address + path)
        page.locator(there).first.wait_for()
        if path == "/inspect":
            page.get_by_role("button", name="A scene").click()
            page.locator(".heat li").first.wait_for()
        assert faults(page) == [], path
