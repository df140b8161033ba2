"""Adapt in a browser: from a dropped table to predictions, and what a bad table is told."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from broadbase.adapt.task import Task
from broadbase.weights.folder import save
from support.adapting import saved
from support.bases import text_base
from support.browser import Problems, check_accessible, serving, watched

FRUIT, TOOL = "apple pear plum fig", "saw drill axe file"
SCRIPT = "<img src=x onerror=alert(1)>"
DROP = """(form, [name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  form.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""


def records(count: int) -> list[tuple[str, str]]:
    return [(f"{(FRUIT, TOOL)[i % 2]} {i}", ("fruit", "tool")[i % 2]) for i in range(count)]


def table(path: Path, rows: Sequence[Sequence[str]], *header: str) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with `kinds`, which tells fruit from tools."""
    folder = tmp_path_factory.mktemp("adapt")
    texts, kinds = zip(*records(40), strict=True)
    task = Task.from_records("kinds", "text", list(texts), list(kinds))
    data = table(folder / "kinds.csv", records(40), "words", "kind")
    read = {"data": str(data), "field": "words", "label": "kind"}
    saved(folder / "kinds", task, text_base(), read=read, result={"scores": [0.7, 0.8, 0.9]})
    (folder / "root" / "adapted").mkdir(parents=True)
    (folder / "kinds").rename(folder / "root" / "adapted" / "kinds")
    save(text_base(), folder / "tiny")
    return folder / "root"


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(root, {"tiny": str(root.parent / "tiny")}) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str, problems: Problems) -> Iterator[Page]:
    yield from watched(browser, address, problems)


def give(page: Page, path: Path, button: str = "Read the table") -> None:
    page.get_by_label("A table with labels").set_input_files(path)
    page.get_by_role("button", name=button).click()


def test_a_dropped_table_becomes_predictions(page: Page, root: Path, tmp_path: Path) -> None:
    rows = [(f"{i}", text, kind) for i, (text, kind) in enumerate(records(36))]
    path = table(
        tmp_path / "my things.csv", [*rows, ("36", "no label here", "")], "id", "what", "is"
    )
    page.goto("/adapt")
    check_accessible(page)
    form = page.locator("form[data-drop]").first
    form.evaluate(DROP, ["my things.csv", path.read_text()])
    page.wait_for_url("**/adapt/tables/*")
    assert page.get_by_label("Text", exact=True).input_value() == "what"
    assert page.get_by_label("Label", exact=True).input_value() == "is"
    expect(page.locator("#check")).to_contain_text("fruit 18, tool 18")
    expect(page.locator("#check")).to_contain_text("1 of 37 records have no label")
    check_accessible(page)
    page.get_by_label("Method").select_option("probe")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/adapt/kept/my-things")
    labels = page.get_by_role("table").first.get_by_role("rowheader")
    page.get_by_role("heading", name="Predict a file").wait_for(timeout=120_000)
    assert [text.split(":")[0] for text in labels.all_inner_texts()] == [
        "none",
        "2 of each class",
        "5 of each class",
        "all 18",
    ]
    assert (root / "adapted" / "my-things" / "adapted.json").is_file()
    check_accessible(page)
    new = table(tmp_path / "new.csv", [("saw axe drill", "x"), ("", "y")], "what", "more")
    page.get_by_label("A table of new records").set_input_files(new)
    page.get_by_role("button", name="Predict").first.click()
    page.wait_for_url("**/adapt/results/*")
    link = page.get_by_role("link", name="Download all as CSV")
    link.wait_for(timeout=120_000)
    with page.expect_download() as download:
        link.click()
    with Path(download.value.path()).open(newline="") as file:
        predicted = list(csv.DictReader(file))
    assert [row["more"] for row in predicted] == ["x", "y"]
    assert predicted[0]["predicted"] in ("fruit", "tool")
    assert "empty" in predicted[1]["error"]
    expect(page.locator("footer")).to_contain_text("broadbase predict")
    check_accessible(page)


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("sheet.xlsx", b"PK\x03\x04 and more", "save the sheet as CSV"),
        ("sheet.csv", b"PK\x03\x04 and more", "save it as CSV"),
        ("notes.docx", b"words", "drop a file that ends in .csv"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"text,label\n", "every other line is a record"),
    ],
)
def test_a_file_that_is_no_table_says_what_to_do(
    page: Page, tmp_path: Path, problems: Problems, name: str, content: bytes, remedy: str
) -> None:
    problems.allow("status of 400")
    (tmp_path / name).write_bytes(content)
    page.goto("/adapt")
    give(page, tmp_path / name)
    expect(page.get_by_role("alert")).to_contain_text(remedy)
    assert "/tmp" not in page.get_by_role("alert").inner_text()


def test_labels_that_cannot_be_learned_say_why(
    page: Page, tmp_path: Path, problems: Problems
) -> None:
    problems.allow("status of 400")
    path = table(tmp_path / "same.csv", [(f"a text {i}", "yes") for i in range(9)], "text", "label")
    page.goto("/adapt")
    give(page, path)
    page.wait_for_url("**/adapt/tables/*")
    page.get_by_label("Label", exact=True).select_option("label")
    expect(page.locator("#check")).to_contain_text("has 1 class")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#error")).to_be_visible()


def test_scripts_in_a_table_are_text(page: Page, tmp_path: Path) -> None:
    rows = [(f"{SCRIPT} {text}", f"{SCRIPT} {kind}") for text, kind in records(12)]
    path = table(tmp_path / "x<img>.csv", rows, f"{SCRIPT} words", "label")
    page.goto("/adapt")
    give(page, path)
    page.wait_for_url("**/adapt/tables/*")
    expect(page.locator("#check")).to_contain_text(f"{SCRIPT} fruit 6")
    assert page.get_by_role("columnheader", name=f"{SCRIPT} words").is_visible()
    assert not page.locator("main img").count()


def test_another_choice_is_explained(page: Page, tmp_path: Path) -> None:
    rows = [(text, kind, str(i / 3)) for i, (text, kind) in enumerate(records(30))]
    page.goto("/adapt")
    give(page, table(tmp_path / "t.csv", rows, "text", "label", "price"))
    page.wait_for_url("**/adapt/tables/*")
    page.get_by_label("Label", exact=True).select_option("price")
    expect(page.locator("#check")).to_contain_text("read as numbers")
    page.get_by_label("Kind of label").select_option("classes")
    expect(page.locator("#check")).to_contain_text("has 0 classes")


def test_a_record_is_predicted_by_keyboard_alone(page: Page) -> None:
    page.goto("/adapt/kept/kinds")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "text":
            break
    page.keyboard.type("apple pear plum")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    answer = page.locator("#answer")
    expect(answer).to_contain_text("Predicted: ")
    assert {"fruit", "tool"} == {
        text.split(":")[0] for text in answer.locator("li").all_inner_texts()
    }


def test_what_is_not_there_gives_404(page: Page, problems: Problems) -> None:
    problems.allow("status of 404")
    for path in ("kept/nothing", "tables/0123456789ab", "results/..%2F..", "events/nothing"):
        response = page.goto(f"/adapt/{path}")
        assert response is not None
        assert response.status == 404, path
