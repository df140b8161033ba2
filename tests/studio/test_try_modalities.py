"""The page Try with a base of each family: pictures, sounds, molecules, gaps, names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from broadbase.run.run import Run
from support.browser import Problems, check_accessible, serving, watched
from support.recipes import small, write_corpus

RECIPES = ("bert", "clip", "mae", "molecule", "speech")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def families(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio on a tiny run of each recipe."""
    root = tmp_path_factory.mktemp("families")
    for name in RECIPES:
        Run.create(small(name, corpus), root / name).train()
    with serving(root) as address:
        yield address


@pytest.fixture
def page(browser: Browser, families: str, problems: Problems) -> Iterator[Page]:
    yield from watched(browser, families, problems)


def tried(page: Page, *names: str, text: str = "", file: Path | None = None) -> list[Locator]:
    """Give these bases a text or a file; return their answers once all have answered."""
    if not page.url.endswith("/try"):
        page.goto("/try")
    for box in page.get_by_role("checkbox").all():
        box.set_checked(box.get_attribute("value") in names)
    page.get_by_label("Text", exact=True).fill(text)
    if file is not None:
        page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_role("status")).to_have_text(f"{', '.join(names)}: done", timeout=60_000)
    return page.get_by_role("article").all()


def widths(answer: Locator) -> list[int]:
    """The natural widths of an answer's pictures; 0 is one that was not loaded."""
    pictures = answer.get_by_role("img").all()
    return [int(each.evaluate("e => e.decode().then(() => e.naturalWidth)")) for each in pictures]


def test_a_picture_is_ranked_and_reconstructed_side_by_side(page: Page, corpus: Path) -> None:
    page.goto("/try")
    page.get_by_text("Names to rank").click()
    page.get_by_label("Names or texts").fill("a cat\na dog\n<b>a bird</b>")
    clip, mae = tried(page, "clip", "mae", file=corpus / "003.png")
    ranked = clip.get_by_role("listitem").filter(has_text="logit")
    assert ranked.count() == 3
    before = [str(row.text_content()).split(", logit")[0] for row in ranked.all()]
    shares = [float(words.split()[-1]) for words in before]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 1) < 0.01
    assert clip.get_by_text("<b>a bird</b>").is_visible()
    assert mae.get_by_text("75% of the patches masked").is_visible()
    assert len(widths(mae)) == 4
    assert all(widths(mae))
    check_accessible(page)


def test_a_dropped_sound_is_transcribed(page: Page, corpus: Path) -> None:
    page.goto("/try")
    transfer = page.evaluate_handle(
        """async (bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "said.wav"));
            return transfer;
        }""",
        [*(corpus / "003.wav").read_bytes()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    (answer,) = tried(page, "speech")
    assert answer.get_by_role("listbox").text_content()
    assert answer.get_by_text("--audio said.wav").is_visible()
    page.get_by_role("button", name="Remove the file").click()
    assert page.locator("#file").input_value() == ""


def test_a_molecule_is_drawn_and_continued(page: Page) -> None:
    (answer,) = tried(page, "molecule", text="CCO")
    assert answer.get_by_role("heading", name="The molecule").is_visible()
    assert all(widths(answer))
    assert answer.get_by_role("heading", name="5-gram of its training data").is_visible()
    check_accessible(page)


def test_gaps_are_filled_and_other_texts_get_their_neighbours(page: Page) -> None:
    (answer,) = tried(page, "bert", text="the [MASK] of the License <img src=x onerror=alert(1)>")
    assert answer.get_by_role("table").get_by_role("row").count() == 6
    assert answer.get_by_text("<img src=x onerror=alert(1)>").first.is_visible()
    assert answer.get_by_role("img").count() == 0
    (answer,) = tried(page, "bert", text="the License")
    nearest = answer.get_by_role("listitem").filter(has_text="cosine")
    assert nearest.count() == 5


def test_what_a_base_cannot_read_is_said_in_words(
    page: Page, tmp_path: Path, problems: Problems
) -> None:
    problems.allow("status of 400")
    mae, molecule = tried(page, "mae", "molecule", text="C1CC")
    assert "does not read a text" in str(mae.get_by_role("alert").text_content())
    assert molecule.get_by_role("listbox").first.text_content()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    page.locator("#file").set_input_files(broken)
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#error")).to_contain_text("broken.png: ")
    page.locator("#file").set_input_files([])
    page.get_by_label("Text", exact=True).fill("C" * 20_001)
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#error")).to_contain_text("20,001 characters; give at most 20,000")
