"""Fixtures that the tests share."""

from __future__ import annotations

import os
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from broadbase.core.contracts import Batch
from broadbase.core.errors import ResourceError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.evaluate.sandbox import require_wall
from broadbase.train.speeds import use_onednn
from support.codes import train_tokenizer
from support.programs import IMPORTS
from support.recipes import write_corpus
from support.segments import images, packed

torch.set_num_threads(1)
os.environ["BROADBASE_CACHE_GB"] = "0"  # no test leaves embeddings in the user's cache
os.environ.pop("COLUMNS", None)  # a worker of xdist says 80; a table that goes to a file has room


def pytest_configure(config: pytest.Config) -> None:
    """In a worker, let every process that a fork server starts begin with its imports done.

    A server that is running keeps its imports: otherwise the first test that starts a process would
    choose them for all others, and theirs would import torch each time.
    """
    if hasattr(config, "workerinput"):
        forkserver.set_forkserver_preload([*IMPORTS])
        forkserver.ensure_running()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker takes a file whole: those that take longest begin first."""
    longest = ("test_ranks.py", "test_docs.py", "test_recipes.py", "test_untrusted_files.py")
    items.sort(key=lambda item: (*longest, item.path.name).index(item.path.name))


@pytest.fixture
def wall() -> None:
    """Skips a test of programs that run behind a wall where the system gives none."""
    try:
        require_wall()
    except ResourceError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def products_by_torch() -> None:
    """What multiplies is the process's, and no test finds it as another left it."""
    use_onednn(False)


@pytest.fixture
def batch() -> Batch:
    """Two sources of different row counts, documents of different lengths, one row half padding."""
    text = packed([[5, 7], [12], [3, 3, 3, 3], [4], [2, 9], [11]], 12)
    return Batch(3, {"prose": text, "digits": images(4)}, KeyedRandom(seed=1, step=3))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of every kind that recipes read."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained a tokenizer of pictures on digits."""
    return train_tokenizer(tmp_path_factory.mktemp("vq") / "run")
