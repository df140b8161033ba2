"""The page Try in a browser: texts, and several bases side by side."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from broadbase.inference.autoregressive import SamplingConfig
from broadbase.weights.folder import load
from support.browser import check_accessible

PROMPT = "document 3 alpha"


def test_two_bases_continue_a_text_next_to_their_5_grams(page: Page, runs: Path) -> None:
    page.goto("/try")
    page.get_by_label("notes", exact=True).check()
    page.get_by_label("notes-2", exact=True).check()
    page.get_by_label("Text", exact=True).fill(PROMPT)
    page.get_by_text("Sampling", exact=True).click()
    page.get_by_label("New tokens").fill("12")
    page.get_by_label("Seed").fill("5")
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_role("status")).to_have_text("notes, notes-2: done")
    sampling = SamplingConfig(temperature=0.8, seed=5)
    for name in ("notes", "notes-2"):
        article = page.get_by_role("article").filter(
            has=page.get_by_role("heading", name=name, exact=True)
        )
        expected = load(runs / name).generate(PROMPT, max_new_tokens=12, sampling=sampling)
        first, second = article.get_by_role("listbox").all()
        assert first.text_content() == expected.rstrip("\ufffd")
        assert second.text_content()
        article.get_by_text("As a table").first.click()
        assert article.get_by_role("table").first.get_by_role("row").count() == 13
        assert article.get_by_text("broadbase generate").text_content()
    check_accessible(page)


def test_everything_goes_by_keyboard(page: Page) -> None:
    page.goto("/try?base=notes")
    assert page.get_by_label("notes", exact=True).is_checked()
    page.get_by_label("notes", exact=True).focus()
    reach(page, "text")
    page.keyboard.type(PROMPT)
    reach(page, "modality")
    page.keyboard.press("b")
    assert page.get_by_label("Read it as").input_value() == "bytes"
    reach(page, "")  # the button
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("notes: done")
    tokens = page.get_by_role("listbox").first
    while page.evaluate("document.activeElement.role") != "listbox":
        page.keyboard.press("Tab")
    lane = tokens.locator("xpath=ancestor::section[1]")
    detail = lane.locator(".detail")
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowLeft", "Home"):
        page.keyboard.press(key)
        active = tokens.locator("[aria-selected=true]")
        assert active.count() == 1
        assert active.get_attribute("id") == tokens.get_attribute("aria-activedescendant")
        words = str(detail.text_content())
        assert re.match(r"\S+ \d\.\d{3}\. Likeliest here: ", words)
        seen.add(active.get_attribute("id"))
    assert len(seen) == 4


def reach(page: Page, identity: str) -> None:
    """Press Tab until the element of an id has the focus, or the button that sends."""
    sends = "document.activeElement.type === 'submit'"
    test = sends if not identity else f"document.activeElement.id === '{identity}'"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(test):
            return
    raise AssertionError(f"Tab does not reach {identity or 'the button'}")


def test_markup_in_a_prompt_is_text(page: Page) -> None:
    """In the prompt, in the tokens, in their table and in the command."""
    page.goto("/try?base=notes")
    attack = "<img src=/x onerror=alert(1)><script>alert(2)</script>"
    page.get_by_label("Text", exact=True).fill(attack)
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_role("status")).to_have_text("notes: done")
    assert page.get_by_text(attack).first.is_visible()
    assert page.locator("#answers img, #answers script").count() == 0


def test_unknown_bases_and_files_are_404(page: Page) -> None:
    page.goto("/try")
    token = page.locator("meta[name=token]").get_attribute("content")
    headers = {"X-Broadbase-Token": str(token)}
    for name in ("none", "../notes", "notes/../../notes", "/etc", ""):
        answer = page.request.post("/try", multipart={"base": name, "text": "a"}, headers=headers)
        assert answer.status == 404, name
    assert page.request.get("/try/files/none").status == 404
    assert page.request.post("/try", multipart={"base": "notes"}).status == 403
    page.get_by_label("notes", exact=True).uncheck()
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#error")).to_have_text("Choose one to four bases.")
