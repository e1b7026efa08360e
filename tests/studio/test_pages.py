from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_feature_has_a_page_with_all_that_is_known(page: Page, address: str) -> None:
    page.goto(f"{address}/features/tiny-features/7")
    page.get_by_role("heading", name="something else 7").wait_for()
    page.get_by_role("heading", name="On the map").wait_for()
    told = page.locator("main").inner_text()
    for part in ("Where it is strongest", "How strong", "Most often on", "Alike", "by chance", "On the map"):
        assert part in told, part
    assert page.locator(".examples .tk[class*=' s']").count() > 0
    # Examples from weak to strong: the strongest of a band of weak ones is weaker than those shown first.
    strongest = float(page.locator(".examples li > span").first.inner_text())
    page.get_by_label("Show").select_option(label="by lot, weakest fifth")
    page.get_by_role("heading", name="Where it is active").wait_for()
    page.locator(".examples li").first.wait_for()
    assert float(page.locator(".examples li > span").first.inner_text()) <= strongest
    for part in ("Where in a text", "half stay below", "the median feature on"):
        assert part in told, part
    assert re.search(r"The label scores 0\.90; the same label for other features 0\.50", told)
    # A text of one's own is tinted by this feature.
    page.get_by_label("A text of your own").fill("the rain in the town and the dogs bark at the moon")
    page.get_by_role("button", name="Read it").click()
    page.get_by_label(re.compile("^Your text")).wait_for()
    # Its effect: both answers, and the slider writes the turned one again.
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_label("Receipt").wait_for()
    slider = page.locator(".strength input")
    slider.focus()
    slider.press("ArrowRight")
    page.get_by_text("1.10 ×").first.wait_for()
    # Neighbours lead on, and back.
    page.locator(".near a").first.click()
    page.wait_for_url(re.compile(r"/features/tiny-features/(?!7$)\d+"))
    page.go_back()
    page.get_by_role("heading", name="something else 7").wait_for()
    page.get_by_role("button", name="Turn it in the chat").click()
    assert page.locator(".pin output").inner_text() == "1.0 ×"


def search_for(page: Page, way: str, text: str) -> None:
    page.get_by_role("radio", name=way).check()
    page.get_by_role("combobox", name="Search features").fill(text)


def test_features_are_found_by_words_meaning_prompt_effect_and_number(page: Page, address: str) -> None:
    told = [httpx.get(f"{address}/v1/features/{f}").json()["promotes"] for f in range(20)]
    promoted = next(word for words in told for word in words if word.isalpha() and len(word) > 2)
    page.goto(address)
    page.get_by_role("button", name=re.compile("Search features")).click()
    options = page.get_by_role("listbox").get_by_role("option")
    search_for(page, "Words", "snow")
    options.filter(has_text="rain and snow").wait_for()
    search_for(page, "Meaning", "rain snow")
    page.locator("[role=option] [title^=Cosine]").first.wait_for()
    search_for(page, "Prompt", "The dogs bark.")
    page.get_by_text("of its maximum").first.wait_for()
    search_for(page, "Effect", promoted)
    page.get_by_text(re.compile(r"\d nats")).first.wait_for()
    search_for(page, "Words", "zzzz")
    page.get_by_text("Nothing was found by words").wait_for()
    search_for(page, "Words", "12")
    options.first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/features/tiny-features/12")


def test_a_text_is_inspected_as_a_heat_map_and_exported(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/inspect")
    page.get_by_label("Text", exact=True).fill("the rain in the town and the dogs")
    page.get_by_role("button", name="Read it").click()
    page.locator(".heat li").nth(3).wait_for()
    assert page.locator(".read .tk").count() > 5
    peaks = [float(t.split()[1]) for t in page.locator(".heat li > span:nth-of-type(1)").all_inner_texts()]
    assert peaks == sorted(peaks, reverse=True)
    page.locator(".heat .pinner").first.click()
    assert page.locator(".read .tk.p0").count() > 0
    page.locator(".lane").first.click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export CSV").click()
    path = tmp_path / "features.csv"
    waiting.value.save_as(path)
    assert path.read_text().startswith("position,token,feature,share,label\n1,")
    # A file is read as well.
    other = tmp_path / "text.txt"
    other.write_text("the moon")
    page.get_by_label("Open a file").set_input_files(other)
    page.locator(".read .strip", has_text=re.compile(r"^\s*the moon\s*$")).wait_for()


def test_the_map_is_moved_searched_and_clicked_through(page: Page, address: str) -> None:
    page.goto(f"{address}/map")
    plane = page.get_by_role("application")
    plane.wait_for()
    page.get_by_role("button", name="Find on the map").click()
    search_for(page, "Words", "something")
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("found for").wait_for()
    plane.focus()
    for key in ("ArrowLeft", "+", "+", "-", "0", "Enter"):
        plane.press(key)
    chosen = page.get_by_label("The chosen feature")
    chosen.wait_for()
    box = plane.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 600, box["y"] + 300)
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 350, steps=3)
    page.mouse.up()
    assert page.evaluate("performance.getEntriesByName('map').length") > 3
    page.get_by_label("Colour").select_option("frequency")
    chosen.get_by_role("button", name="Open its page").click()
    page.wait_for_url("**/features/tiny-features/*")
    page.get_by_role("link", name="Open the map at this feature").click()
    page.wait_for_url(re.compile(r"/map\?feature=\d+"))
    page.get_by_label("The chosen feature").wait_for()


def test_a_phone_reads_it(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    for path in ("/", "/inspect", "/features/tiny-features/7", "/map"):
        page.goto(address + path)
        page.locator("main h1, main .plane").first.wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto(address)
    page.get_by_role("button", name="Features").last.click()
    page.get_by_role("heading", name="Pinned features").wait_for()
