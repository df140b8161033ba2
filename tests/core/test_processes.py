"""Processes that work for another end when it ends, and starting them changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = """
import multiprocessing, os, sys, time
from broadbase.core.processes import end_with_parent, no_main

def work(queue):
    end_with_parent()
    queue.put(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    for _ in range(2):
        context.Process(target=work, args=(queue,), daemon=True).start()
    print(*(queue.get() for _ in range(2)), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, method: str) -> None:
    (tmp_path / "work.py").write_text(WORKER)
    command = [sys.executable, str(tmp_path / "work.py"), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    for pid in pids:
        assert gone(pid, 10), f"worker {pid} stays after its parent"


def gone(pid: int, seconds: float) -> bool:
    """Whether a process ends within so many seconds; a zombie has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


MAIN = """
import multiprocessing, os
from broadbase.core.processes import no_main
if {file!r} == "none":
    del __file__
before = dict(globals())
with no_main():
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
process.join()
assert process.exitcode == 0
assert globals().get("__file__", "none") == before.get("__file__", "none")
assert ("__file__" in globals()) == ("__file__" in before)
assert __spec__ is before["__spec__"]
"""


@pytest.mark.parametrize("file", ["script", "none"])
def test_starting_workers_leaves_the_main_module_as_it_was(tmp_path: Path, file: str) -> None:
    """A main module without a file stays without one: None breaks setuptools' import hook."""
    (tmp_path / "work.py").write_text(MAIN.format(file=file))
    subprocess.run([sys.executable, str(tmp_path / "work.py")], check=True)
