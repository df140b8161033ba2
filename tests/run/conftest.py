"""Fixtures of the tests of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.runs import write_documents


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with 20 documents."""
    return write_documents(tmp_path / "d")
