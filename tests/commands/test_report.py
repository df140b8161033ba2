"""`report` writes what a run did as one file; `pretrain --studio` starts its pages."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from broadbase.core.errors import ConfigError
from support.runs import SET, broadbase, pretrain, write_documents


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("report") / "documents")


def test_a_report_has_curves_samples_and_config(data: Path) -> None:
    run = data.parent / "run"
    pretrain(data, run, **{"train.samples": 1})
    broadbase("report", run)
    page = (run / "report.html").read_text()
    assert "<svg" in page
    assert "bytes, after step 4" in page
    assert "batch_size: 4" in page
    assert "<script" not in page
    broadbase("report", run, "--out", data.parent / "page.html")
    assert (data.parent / "page.html").is_file()


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        broadbase("report", tmp_path)


def test_pages_are_started_with_a_training_and_outlive_it(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = data.parent / "watched"
    words = ("pretrain", "bytes", "--data", data, "--depth", "1", "--out", root / "run", "--studio")
    output = broadbase(*words, **{**SET, "train.steps": 1}).output
    output += "".join(capfd.readouterr())
    address = re.search(r"http://\S+/runs/latest", output)
    pid = re.search(r"kill (\d+)", output)
    assert address is not None
    assert pid is not None
    try:
        assert "Run run" in _fetched(address[0])
    finally:
        os.kill(int(pid[1]), signal.SIGTERM)


def _fetched(address: str) -> str:
    """The page, once the server listens."""
    end = time.monotonic() + 60
    while True:
        try:
            return str(urlopen(address, timeout=10).read().decode())
        except URLError:
            assert time.monotonic() < end
            time.sleep(0.2)
