"""Python programs in processes of their own, which begin where their imports are done.

To import torch and this package takes seconds of CPU. A server, one of each worker of the tests,
imports them once, and a program is a fork of it: a process with its own memory, environment,
folder, output and signals, which can be killed. `subprocess` is for tests of what a start does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from support.paths import TESTS

WORK = ("adapt", "data", "evaluate", "exchange", "generate", "inspect", "predict", "train")
IMPORTS = (
    "broadbase.commands.main",
    *(f"broadbase.commands.work.{name}" for name in WORK),
    *("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"),
    "typer.testing",
)
BROADBASE = "from broadbase.commands.main import main; main()"  # `python -m broadbase`
FORKED = {"BROADBASE_PRELOAD": "off"}  # a program that starts itself again would be no fork
SERVER = "import sys; sys.path.insert(0, {!r}); from support.programs import serve; serve({})"


class Program:
    """A process, with what `subprocess.Popen` has of it; its output goes to two files."""

    def __init__(
        self,
        code: str,
        *words: object,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        session: bool = False,
    ) -> None:
        """Start `python -c code words...`, with `session` as the leader of one."""
        folder = Path(tempfile.mkdtemp(prefix="program-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.stdout.touch()
        self.stderr.touch()
        self.returncode: int | None = None
        self.pid: int = Server.one().answer(
            code=code,
            words=[str(word) for word in words],
            env={**(os.environ if env is None else env), **FORKED},
            cwd=str(cwd or Path.cwd()),
            files=[str(self.stdout), str(self.stderr)],
            session=session,
        )

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = Server.one().answer(pid=self.pid)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """The exit code; TimeoutError after so many seconds. Who waits no longer kills it."""
        end = time.monotonic() + timeout
        try:
            while (code := self.poll()) is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"after {timeout:g} s: {self.stderr.read_text()[-3000:]}")
                time.sleep(0.01)
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            raise
        return code

    def done(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """The exit code and the output, when it has ended."""
        code = self.wait(timeout)
        output, said = self.stdout.read_text(), self.stderr.read_text()
        return subprocess.CompletedProcess([], code, output, said)


def run(
    code: str, *words: object, check: bool = False, timeout: float = 300, **more: Any
) -> subprocess.CompletedProcess[str]:
    """`python -c code words...` to its end; AssertionError where it has to succeed and does not."""
    done = Program(code, *words, **more).done(timeout)
    assert not check or done.returncode == 0, done.stderr[-8000:]
    return done


def ranks(world: int, code: str, *words: object, **env: str) -> list[Program]:
    """Programs that meet, as `torchrun --standalone` starts them, but not supervised."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **env}
    given |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    every = [{**given, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    return [Program(code, *words, env=each) for each in every]


class Server:
    """The process that imports and forks, as its client sees it."""

    _one: Server | None = None

    def __init__(self) -> None:
        client, server = socket.socketpair()
        code = SERVER.format(str(TESTS), server.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[server.fileno()], stdin=subprocess.DEVNULL
        )
        server.close()
        self.owner, self.lines = os.getpid(), client.makefile("rw")
        client.close()
        atexit.register(self.close)

    @classmethod
    def one(cls) -> Server:
        """The server of this process, started when it is first needed."""
        if cls._one is None or cls._one.owner != os.getpid():
            cls._one = Server()
        return cls._one

    def answer(self, **request: Any) -> Any:
        self.lines.write(json.dumps(request) + "\n")
        self.lines.flush()
        return json.loads(self.lines.readline())

    def close(self) -> None:
        if self.owner == os.getpid():
            self.lines.close()
            self.process.wait(60)


def serve(link: int) -> None:
    """In the server: fork for each request. The fork runs the program that is requested."""
    for name in IMPORTS:
        importlib.import_module(name)
    sys.path.remove(str(TESTS))
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all memory
    with socket.socket(fileno=link) as connection:
        lines = connection.makefile("rw")
    for line in iter(lines.readline, ""):
        request = json.loads(line)
        if "pid" in request:
            ended, status = os.waitpid(request["pid"], os.WNOHANG)
            result = os.waitstatus_to_exitcode(status) if ended else None
        elif not (result := os.fork()):
            lines.close()
            _execute(**request)
        lines.write(json.dumps(result) + "\n")
        lines.flush()


def _execute(
    code: str, words: list[str], env: dict[str, str], cwd: str, files: list[str], session: bool
) -> NoReturn:
    """Go on as `python -c code words...`; modules are not torn down at its end."""
    for descriptor, name in enumerate(files, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["-c", *words]
    sys.path.insert(0, "")
    importlib.invalidate_caches()
    sys.modules["__main__"] = main = ModuleType("__main__")
    result = 0
    try:
        exec(code, vars(main))
    except SystemExit as end:
        result = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        result = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(result)
