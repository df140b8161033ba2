"""A real browser on a real server over real, tiny runs; and what every page must hold.

tests/studio/conftest.py makes these fixtures those of its folder.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from broadbase.serve.running import listen
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker
from broadbase.studio.app import studio_app
from broadbase.studio.bases import Bases
from support.runs import pretrain, write_documents

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
LEVELS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
TOKEN = "token-of-the-tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; skips where there is none.

    While it is there, this thread has a running event loop: tests that call asyncio.run lie in
    files of their own.
    """
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*QUIET])
        yield started
        started.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny runs: `notes` and `notes-2` learned bytes, with another seed each.

    Who changes a run copies it first: `shutil.copytree(runs / "notes", ...)`.
    """
    root = tmp_path_factory.mktemp("studio")
    data = write_documents(root / "documents")
    for seed, name in enumerate(("notes", "notes-2")):
        settings = {"train.steps": 12, "train.evaluate_every": 4, "train.save_every": 12}
        pretrain(data, root / "runs" / name, seed=seed, **settings)
    return root / "runs"


@pytest.fixture(scope="session")
def studio(runs: Path) -> Iterator[str]:
    """The address of a studio on these runs; the base of each can be tried."""
    with serving(runs) as address:
        yield address


class Problems(list[str]):
    """What the test's page did that no page may: the `page` fixture fails where any is left."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed: list[str] = []

    def allow(self, part: str) -> None:
        """Let the page do what has this in its message, at any time of the test.

        The browser reports a problem when it likes, also after the test: what is expected is
        allowed, not removed.
        """
        self._allowed.append(part)

    def left(self) -> list[str]:
        """All that was not allowed."""
        return [each for each in self if not any(part in each for part in self._allowed)]


@pytest.fixture
def problems() -> Problems:
    """The problems of this test's pages."""
    return Problems()


@pytest.fixture
def page(browser: Browser, studio: str, problems: Problems) -> Iterator[Page]:
    """A new page at the studio; no request may leave it, and no error reach the console."""
    yield from watched(browser, studio, problems)


def watched(browser: Browser, address: str, problems: Problems) -> Iterator[Page]:
    """Yield a page at an address, and then fail where it did what no page may."""
    context = browser.new_context(base_url=address, reduced_motion="reduce")
    context.set_default_timeout(10_000)

    def requested(request: Any) -> None:
        if not request.url.startswith((f"{address}/", f"blob:{address}/")):
            problems.append(f"a request to {request.url}")

    def said(message: Any) -> None:
        if message.type == "error":
            problems.append(f"console: {message.text}")

    context.on("request", requested)
    context.on("console", said)
    context.on("weberror", lambda error: problems.append(f"script: {error.error}"))
    yield context.new_page()
    context.close()
    assert not problems.left()


@contextmanager
def serving(root: Path, given: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve a studio on the runs in `root` from a thread; gives its address.

    `given` are other bases, by name.
    """
    settings, worker = ServeConfig(port=0), Worker(8)
    app = studio_app(root, Bases(root, given or {}, worker, "cpu"), settings, TOKEN)
    opened = listen(settings)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        worker.close()


def check_accessible(page: Page) -> None:
    """WCAG 2.2 AA by axe in light and dark, at 1280 and 320 pixels and at 200 % zoom.

    The page may not scroll sideways, and every chart has its table. Zoom of 200 % halves the width
    that the page is laid out in.
    """
    bare = page.locator("figure:has(svg[role=img]):not(:has(table))").count()
    assert not bare, f"{bare} charts without a table"
    page.evaluate(Axe().axe_script)
    for width, height in ((1280, 800), (640, 400), (320, 640)):
        page.set_viewport_size({"width": width, "height": height})
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{over} pixels too wide for {width}"
        _check_axe(page, f"light, {width} pixels", [*LEVELS])
        page.emulate_media(color_scheme="dark")  # changes nothing but colours
        _check_axe(page, f"dark, {width} pixels", ["color-contrast"])
        page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


def _check_axe(page: Page, where: str, rules: list[str]) -> None:
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    violations = page.evaluate("(options) => axe.run(options)", options)["violations"]
    lines = [
        f"{each['id']} ({where}): {node['html'][:200]} {node['failureSummary']}"
        for each in violations
        for node in each["nodes"][:3]
    ]
    assert not violations, "\n".join(lines)
