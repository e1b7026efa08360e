"""Makes a picture of each page of the studio, in light and in dark, into docs/screens.

It starts `pellucid studio --demo`, so it needs the shipped model, npm, Chromium and playwright.

Run: python docs/screens.py
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent / "screens"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
_DICTIONARY = "smollm2-resid_post.13-16k"
_MUSIC = 12058


@contextmanager
def studio() -> Iterator[str]:
    """The address of a studio over what is shipped."""
    command = [sys.executable, "-u", "-m", "pellucid", "studio", "--demo", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"The studio: (http://\S+?)/\s", line):
                    yield found[1]
                    break
        finally:
            process.terminate()


def first(page: Any, address: str) -> None:
    """The first page, before anything is asked."""
    page.goto(address)
    page.get_by_text("Point at a word").first.wait_for()


def chat(page: Any, address: str) -> None:
    """A feature turned, beside the plain answer."""
    page.goto(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Length").fill("60")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Tell me about yourself.").click()
    page.get_by_role("button", name=re.compile("Pin the one for")).click()
    page.get_by_role("button", name="Turn the first one up").click()
    page.get_by_label("Receipt").wait_for(timeout=180_000)
    page.locator("[aria-busy=true]").first.wait_for(state="detached", timeout=180_000)
    page.evaluate("scrollTo(0, 0)")


def feature(page: Any, address: str) -> None:
    """The page of a feature."""
    page.goto(f"{address}/features/{_DICTIONARY}/{_MUSIC}")
    page.locator(".facts").wait_for()


def search(page: Any, address: str) -> None:
    """What is found by words."""
    page.goto(f"{address}/features/{_DICTIONARY}/{_MUSIC}")
    page.locator(".facts").wait_for()
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search features").fill("music")
    page.get_by_role("listbox").get_by_role("option").first.wait_for(timeout=60_000)


def inspect(page: Any, address: str) -> None:
    """A text that was read."""
    page.goto(f"{address}/inspect")
    page.get_by_role("button", name="A scene").click()
    page.locator(".heat li").nth(5).wait_for(timeout=60_000)
    page.get_by_label("Order").select_option("unusual")
    page.wait_for_timeout(1500)


def map_(page: Any, address: str) -> None:
    """All features in the plane, or why there is no map."""
    page.goto(f"{address}/map")
    page.locator(".plane, .state, main p").first.wait_for()
    page.wait_for_timeout(1500)


PAGES = {"first": first, "chat": chat, "feature": feature, "search": search, "inspect": inspect, "map": map_}


def main() -> None:
    """Make all pictures."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("Chromium is not installed.")
    OUT.mkdir(exist_ok=True)
    with studio() as address, tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            headless=True,
            args=list(FLAGS),
            viewport={"width": 1280, "height": 800},
        )
        context.set_default_timeout(60_000)
        for scheme in ("light", "dark"):
            for name, shown in PAGES.items():
                page = context.new_page()
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                shown(page, address)
                page.screenshot(path=OUT / f"{name}-{scheme}.png")
                page.close()
                print(f"{name}-{scheme}.png")
        context.close()


if __name__ == "__main__":
    main()
