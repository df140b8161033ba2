"""Map in a browser: points and their table, neighbours, copies, labels in doubt."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from broadbase.adapt.encoder import Encoder
from broadbase.data.sources.tables import CsvConfig
from broadbase.studio import map_data
from broadbase.studio.map_chart import NAMED, dots, signs
from broadbase.studio.map_data import Item, by_components, by_tsne, mapped, table_items
from broadbase.weights.folder import save
from support.bases import text_base
from support.browser import Problems, check_accessible, serving, watched

SCRIPT = "<img src=x onerror=alert(1)>"
WORDS = {"fruit": "apple pear plum fig", "tool": "saw drill axe file"}


def write(path: Path) -> Path:
    """Write 40 records, of which two are equal, one has a wrong label and one a script in it."""
    rows = [(f"{WORDS[kind]} {i}", kind) for i in range(20) for kind in WORDS]
    rows[4] = rows[2]
    rows[6] = (rows[6][0], "tool")
    rows[8] = (f"{SCRIPT} {rows[8][0]}", rows[8][1])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("words", "kind"), *rows])
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("map")
    save(text_base(), folder / "tiny")
    with serving(folder / "root", {"tiny": str(folder / "tiny")}) as address:
        yield address


@pytest.fixture
def own(browser: Browser, address: str, problems: Problems, tmp_path: Path) -> Iterator[Page]:
    """A page with the map of the records."""
    for page in watched(browser, address, problems):
        page.goto("/map")
        page.get_by_label("A table of records").set_input_files(write(tmp_path / "things.csv"))
        page.get_by_role("button", name="Draw the map").click()
        page.wait_for_url("**/map/of/*")
        expect(page.locator("#status")).to_contain_text("The map is drawn", timeout=60_000)
        yield page


def test_points_have_colours_shapes_a_legend_and_a_table(own: Page) -> None:
    points = own.locator("figure svg[role=img] path")
    assert points.count() == 40
    classes = {points.nth(i).get_attribute("class") for i in (0, 1)}
    shapes = {(points.nth(i).get_attribute("d") or "").partition("m")[2] for i in (0, 1)}
    assert len(classes) == len(shapes) == 2
    expect(own.locator(".legend")).to_contain_text("tool 21")
    expect(own.locator("figcaption")).to_contain_text("all 40 records, by t-SNE")
    expect(own.locator("#copies")).to_contain_text("pairs are copies")
    expect(own.locator("footer")).to_contain_text("broadbase doubts tiny")
    assert not own.locator("main img").count()
    check_accessible(own)
    own.locator("#twin summary").click()
    check_accessible(own)


def test_neighbours_are_reached_by_keyboard(own: Page) -> None:
    own.locator("#twin summary").focus()
    own.keyboard.press("Enter")
    own.keyboard.press("Tab")
    own.keyboard.type("saw drill axe file 7")
    expect(own.locator("#count")).to_have_text("1 records")
    own.keyboard.press("Tab")
    own.keyboard.press("Tab")
    own.keyboard.press("Enter")
    expect(own.locator("#near li")).to_have_count(10)
    expect(own.locator("#near h3")).to_contain_text("saw drill axe file 7")


def test_a_typed_record_has_neighbours(own: Page) -> None:
    own.get_by_label("Type a record").fill("apple pear plum fig 9")
    own.get_by_role("button", name="Show its neighbours").click()
    first = own.locator("#near li").first
    expect(first).to_contain_text("apple pear plum fig 9")
    expect(first).to_contain_text("cosine distance 0.000")
    own.locator("figure svg[role=img] path").nth(1).dispatch_event("click")
    expect(own.locator("#near h3")).to_contain_text("saw drill axe file 0")


def test_a_run_shows_what_it_held_out(page: Page) -> None:
    page.goto("/map")
    page.get_by_role("link", name="notes", exact=True).click()
    expect(page.locator("#status")).to_contain_text("held out", timeout=60_000)
    assert page.locator("#rows tr").count() > 0


def test_the_picture_has_a_sign_for_each_label_and_one_for_the_rest() -> None:
    items = [Item("", f"label {i % 20}", "") for i in range(100)]
    among = signs(items)
    assert len(among) == NAMED + 1
    assert len({(each.shape, each.colour) for each in among.values()}) == NAMED + 1
    points = np.random.default_rng(0).normal(size=(100, 2))
    assert len(dots(items, points, among)) == 100


def test_the_table_of_a_map_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_data, "MOST", 30)
    path = write(tmp_path / "things.csv")
    source = CsvConfig(path=str(path), field="words", label="kind")
    items = table_items(text_base(), "text", source, path.name)
    assert len(items.items) == 30
    assert items.said == "30 of 40 records at random; 10 are left out"


def test_neighbours_copies_and_doubts_are_those_of_numpy(tmp_path: Path) -> None:
    base, path = text_base(), write(tmp_path / "things.csv")
    source = CsvConfig(path=str(path), field="words", label="kind")
    items = table_items(base, "text", source, path.name)
    made = mapped(Encoder(base, "text", None), items)
    cosines = made.vectors @ made.vectors.T
    near = made.near(3 * made.vectors[5], without=5)
    others = np.sort(1 - np.delete(cosines[5], 5))
    assert [distance for _, distance in near] == pytest.approx(others[:10], abs=1e-6)
    assert 5 not in [i for i, _ in near]
    count, pairs = made.copies()
    assert count >= 1
    assert (2, 4) in [(a, b) for a, b, _ in pairs]
    said, listed = made.doubtful()
    assert "of 40 labels" in said
    assert all(made.items[i].label != suggested for i, suggested, _ in listed)
    assert by_components(made.vectors).shape == (40, 2)
    assert by_tsne(made.vectors[:5]) is None
