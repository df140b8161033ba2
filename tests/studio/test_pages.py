"""What all pages of the studio share."""

from __future__ import annotations

from playwright.sync_api import Page

from support.browser import check_accessible


def test_the_first_page_lists_the_runs(page: Page) -> None:
    page.goto("/")
    assert page.url.endswith("/runs")
    page.get_by_role("heading", name="Runs", level=1).wait_for()
    assert page.get_by_text("notes-2", exact=True).is_visible()
    check_accessible(page)


def test_the_keyboard_skips_the_sections(page: Page) -> None:
    page.goto("/runs")
    page.keyboard.press("Tab")
    assert page.get_by_text("Skip to the content").is_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
