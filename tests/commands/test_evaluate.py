"""The command `evaluate`: what it says of few documents, and which data it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broadbase.core.errors import DataError
from support.runs import broadbase, pretrain, write_documents


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    pretrain(write_documents(folder / "documents"), folder / "run")
    return folder / "run"


def test_few_held_out_documents_are_said(run: Path) -> None:
    result = broadbase("evaluate", run)
    assert re.search(r"bytes: \d held-out documents are few", result.stderr)
    assert "data.holdout" in result.stderr


def test_a_sample_that_does_not_exist_is_refused_first(run: Path) -> None:
    with pytest.raises(DataError, match=r"there is no sample set 'humanevil'.*humaneval"):
        broadbase("evaluate", run, "--data", "sample:humanevil")
