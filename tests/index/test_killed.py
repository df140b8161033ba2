"""kill -9 at random moments: an index opens with exactly what was committed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broadbase.index.store import Store
from support.indexes import contents, index, texts
from support.paths import TESTS

WORK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.indexes import operate
operate(Path(sys.argv[2]), int(sys.argv[3]))
"""


def killed(path: Path, step: int, seconds: float) -> int:
    """Kill the work after so many seconds; how many operations it said were committed."""
    command = [sys.executable, "-c", WORK, str(TESTS), str(path), str(step)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()  # its imports are done
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return int([*first.split(), *rest.split("\n")[:-1]][-1])


@pytest.mark.parametrize("moments", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_an_index_has_what_was_committed(tmp_path: Path, moments: int) -> None:
    path, step, rng = tmp_path / "i", 0, random.Random(moments)
    index(path).close()
    for _ in range(moments):
        said = killed(path, step, rng.uniform(0, 0.2))
        store = Store.open(path)
        has = texts(store)
        assert has in (contents(said), contents(said + 1))  # committed, but not said yet
        step = said if has == contents(said) else said + 1
        store.close()
