"""The pages in a real browser, over a server of the tiny model; skipped where npm or Chromium is absent."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pellucid.atlas import embedding
from pellucid.serving.served import Served
from tests.serving.conftest import folder, mapped, running  # noqa: F401 (fixtures)
from tests.serving.test_atlas import Letters

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

STUDIO = Path(__file__).resolve().parents[2] / "studio"
ABSENT = "the pages are built by npm and tried in Chromium, and one of them (or playwright) is not installed"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NOT_OURS = re.compile(r"Failed to load resource")
"""What Chromium itself writes of a request that failed; the pages say it to the reader."""


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def pages() -> Path:
    """The built pages, with all that builds them installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(ABSENT)
    from pellucid.serving import built

    built.packages(npm)
    return built.pages()


@pytest.fixture(scope="module")
def served(mapped: Served) -> Iterator[Served]:  # noqa: F811
    """The tiny model, with a dictionary whose atlas has everything; meaning is told by letters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "load", Letters)
        yield mapped


@pytest.fixture(scope="module")
def address(served: Served, pages: Path) -> Iterator[str]:
    from pellucid.serving.pages import Demo, mount

    with running(served, lambda app: mount(app, pages, demo=Demo(7, "sevens", 1.0))) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    program = chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason=ABSENT)
    if program is None:
        pytest.skip(ABSENT)
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=program,
            headless=True,
            args=FLAGS,
            viewport={"width": 1280, "height": 860},
            color_scheme="light",
        )
        context.set_default_timeout(15_000)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext, address: str) -> Iterator[Page]:
    """A page of the studio; at its end it must have written no error and asked no other host."""
    page = browser.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda m: wrong.append(m.text) if m.type == "error" and not _NOT_OURS.match(m.text) else None,
    )
    page.on(
        "request", lambda r: None if r.url.startswith((address, "blob:" + address)) else wrong.append(r.url)
    )
    yield page
    page.close()
    assert wrong == []
