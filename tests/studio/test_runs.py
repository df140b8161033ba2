"""The pages of runs in a browser: live, stopped, resumed, crashed, compared, saved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from broadbase.run.process import process_of
from support.browser import Problems, check_accessible, serving, watched
from support.runs import SET, broadbase

HOSTILE = "<img src=x onerror=alert(1)>"
PATIENCE = 60_000  # milliseconds in which a process has started


@pytest.fixture(scope="module")
def root(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs to change: two finished ones, one that crashed, and one with a hostile name."""
    folder = tmp_path_factory.mktemp("pages") / "runs"
    shutil.copytree(runs, folder)
    broadbase("evaluate", folder / "notes")
    for name in ("crashed", HOSTILE):
        shutil.copytree(folder / "notes", folder / name)
    shutil.rmtree(folder / "crashed" / "model")
    error = {
        "exit_code": 4,
        "message": "step 13: the loss is nan",
        "remedy": "a lower lr",
        "time": 1e9,
    }
    (folder / "crashed" / "last_error.json").write_text(json.dumps(error))
    config = folder / HOSTILE / "config.yaml"
    config.write_text(config.read_text() + "# <script>alert(2)</script>\n")
    return folder


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(root) as where:
        yield where


@pytest.fixture
def page(browser: Browser, address: str, problems: Problems) -> Iterator[Page]:
    yield from watched(browser, address, problems)


def append(run: Path, *rows: dict[str, Any]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_list_says_how_far_each_run_is(page: Page) -> None:
    page.goto("/runs")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="notes", exact=True))
    expect(row).to_contain_text("finished")
    expect(row).to_contain_text("12 of 12")
    expect(row).to_contain_text("gram")  # the baseline beside the newest held-out bits
    crashed = page.get_by_role("row").filter(has=page.get_by_role("link", name="crashed"))
    expect(crashed).to_contain_text("crashed")
    check_accessible(page)


def test_names_and_scripts_in_data_are_text(page: Page) -> None:
    page.goto("/runs")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Run {HOSTILE}")
    page.get_by_text("config.yaml", exact=True).click()
    expect(page.get_by_text("<script>alert(2)</script>")).to_be_visible()
    page.goto("/compare?run=notes&run=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()


def test_a_crash_is_shown_with_what_to_do(page: Page) -> None:
    page.goto("/runs/crashed")
    expect(page.get_by_role("heading", name="Why it ended")).to_be_visible()
    expect(page.get_by_text("step 13: the loss is nan")).to_be_visible()
    expect(page.get_by_text("a lower lr")).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    check_accessible(page)


def test_a_chart_has_its_table(page: Page) -> None:
    page.goto("/runs/notes")
    page.get_by_text("As a table").click()
    table = page.get_by_role("region", name="bytes").get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(1 + 3 + 3)  # evaluations and baselines
    expect(table).to_contain_text("5-gram")


def test_a_new_point_is_on_the_page_within_two_seconds(page: Page, root: Path) -> None:
    page.goto("/runs/notes-2")
    page.get_by_text("As a table").click()
    time.sleep(1)  # the page has shown what there was
    row = {"step": 13, "loss": {"bytes": 1.0}, "bits": {"bytes": 1.4}, "tokens": 9.0}
    append(root / "notes-2", {**row, "norm": 1.0, "seconds": 0.1})
    page.get_by_text("13 of 12").wait_for(timeout=2000)
    assert page.locator("details[open]").count() == 1  # what the reader had opened stays open


def test_runs_are_compared_by_keyboard(page: Page, root: Path) -> None:
    page.goto("/runs")
    for name in ("notes", "notes-2"):
        page.get_by_label(f"Compare {name}", exact=True).focus()
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?*")
    differs = page.get_by_role("region", name="What differs")
    expect(differs).to_contain_text("seed")
    expect(page.get_by_text("broadbase evaluate RUNS/notes-2")).to_be_visible()
    check_accessible(page)
    broadbase("evaluate", root / "notes-2")
    page.reload()
    expect(page.get_by_role("region", name="Paired difference")).to_contain_text("bits per byte")


def test_the_report_is_one_file(page: Page, tmp_path: Path, problems: Problems) -> None:
    page.goto("/runs/notes")
    with page.expect_download() as download:
        page.get_by_text("Save this page").click()
    download.value.save_as(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    problems.allow((tmp_path / "report.html").as_uri())
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.get_by_role("heading", name="Run notes")).to_be_visible()
    expect(page.get_by_role("img", name="bytes, bits per byte")).to_be_visible()


def test_a_run_is_watched_stopped_and_resumed(page: Page, root: Path, runs: Path) -> None:
    """Training is a process of its own: the page sees it, ends it and starts it again."""
    run, settings = root / "live", {**SET, "train.steps": 100_000, "train.evaluate_every": 5}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    data = ("--data", runs.parent / "documents", "--depth", "1", "--out", run)
    command = [sys.executable, "-m", "broadbase", "pretrain", "bytes", *map(str, data), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.2)
        page.goto("/runs/latest")
        expect(page.get_by_role("heading", level=1)).to_have_text("Run live")
        expect(page.locator(".state")).to_contain_text("training")
        first = page.get_by_text("of 100,000").inner_text()
        expect(page.get_by_text("of 100,000")).not_to_have_text(first, timeout=10_000)
        page.get_by_role("button", name="Stop and keep").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".state")).to_contain_text("stopped", timeout=PATIENCE)
        expect(page.get_by_role("status")).to_contain_text("stopped")
        assert process.wait() == 75
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(".state")).to_contain_text("training", timeout=PATIENCE)
        page.get_by_role("button", name="Stop and keep").click()
        expect(page.locator(".state")).to_contain_text("stopped", timeout=PATIENCE)
    finally:
        process.kill()
        if left := process_of(run):
            subprocess.run(["kill", str(left.pid)], check=False)
