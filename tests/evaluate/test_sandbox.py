"""Programs that nobody has read: what the wall keeps in, who decides, and when none is run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from textwrap import indent

import pytest

from broadbase.core.errors import ResourceError
from broadbase.data.sources.problems import Problem
from broadbase.evaluate import sandbox
from broadbase.evaluate.pass_at_k import passes_tests
from broadbase.evaluate.sandbox import passes, require_wall

IN_ANY_WAY = """
import ctypes, os, pathlib, shutil, signal, socket, subprocess, sys
call = ctypes.CDLL(None, use_errno=True).syscall
def done(status): assert status >= 0
for line in {lines!r}:
    try:
        exec(line)
    except BaseException:
        continue
    break
else:
    raise SystemExit
"""


def escapes(*lines: str) -> list[str]:
    """The lines that a program behind the wall runs without an error."""
    if not passes(IN_ANY_WAY.format(lines=lines)):
        return []
    return [line for line in lines if passes(IN_ANY_WAY.format(lines=(line,)))]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that nothing but the wall protects."""
    tmp_path.chmod(0o777)
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    path.chmod(0o666)
    return path


@pytest.mark.usefixtures("wall")
def test_files_outside_are_neither_read_nor_written(secret: Path) -> None:
    lines = (
        "open({0!r})",
        "open({0!r}, 'w')",
        "os.open({0!r}, os.O_WRONLY | os.O_TRUNC)",
        "d = os.open({1!r}, os.O_RDONLY); os.open('x', os.O_CREAT | os.O_WRONLY, 0o666, dir_fd=d)",
        "d = os.open('/', os.O_RDONLY); os.open({0!r}[1:], os.O_RDWR, dir_fd=d)",
        "os.open('/proc/1/root' + {0!r}, os.O_RDWR)",
        "os.open('/proc/self/cwd/../../../../' + {0!r}, os.O_RDWR)",
        "os.remove({0!r})",
        "os.rename({0!r}, 'stolen')",
        "os.link({0!r}, 'link')",
        "os.symlink({0!r}, 'link'); open('link', 'w')",
        "shutil.rmtree({1!r})",
        "os.mkdir({1!r} + '/new')",
        "os.scandir({1!r})",
        "os.mkdir('a'); os.chroot('a')",
        "ctypes.CDLL(None).open({0!r}.encode(), 2) + 1 or 1 / 0",
    )
    assert not escapes(*(line.format(str(secret), str(secret.parent)) for line in lines))
    assert [path.name for path in secret.parent.iterdir()] == ["secret.txt"]
    assert secret.read_text() == "secret"


@pytest.mark.usefixtures("wall")
def test_python_and_the_system_are_there_to_read_alone() -> None:
    before = Path(os.__file__).read_bytes()
    assert not escapes(
        "open(os.__file__, 'a')",
        "open(sys.executable, 'r+b')",
        "os.mkdir(os.path.dirname(os.__file__) + '/site-packages/x')",
        "os.remove(os.__file__)",
        "open('/etc/passwd')",
        "open('/etc/x', 'w')",
        "open('/usr/x', 'w')",
        "open('/x', 'w')",
        "os.mkdir('/dev/shm')",
        "os.listdir('/root')[1]",
        "os.listdir('/home')",
        "os.listdir('/sys')",
        "open('/proc/sys/kernel/hostname', 'w')",
        "open('/proc/self/oom_score_adj', 'w')",
        "os.setuid(0)",
        "os.setgroups([0])",
        "done(call(272, 0x10000000))",  # unshare: a user namespace
        "done(call(165, b'none', b'/tmp', b'tmpfs', 0, 0))",  # mount
        "done(ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, 0))",
    )
    assert Path(os.__file__).read_bytes() == before
    assert passes("import json, math, re, random, hashlib, typing, collections, dataclasses")
    assert passes("import os\nos.mkdir('a')\nopen('a/b', 'w').write('x')\nopen('a/b').read()")
    assert passes("import tempfile\ntempfile.NamedTemporaryFile().write(b'x')")
    caps = "[line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')]"
    assert passes(f"found = {caps}\nassert not any(int(value, 16) for value in found)")


@pytest.mark.usefixtures("wall")
def test_other_processes_are_not_seen_and_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a-secret")
    seen = "b''.join(p.read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*/environ'))"
    assert not escapes(
        f"assert b'a-secret' in {seen}",
        "assert 'a-secret' in os.environ.values()",
        "assert len(list(pathlib.Path('/proc').glob('[0-9]*'))) > 1",
        "os.fork()",
        "os.forkpty()",
        "os.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {})",
        "subprocess.run(['true'])",
        "assert os.system('true') == 0",
        "os.execv('/bin/sh', ['sh', '-c', 'exit'])",
        "__import__('_thread').start_new_thread(print, ())",
        "done(call(57))",  # fork
        "done(call(58))",  # vfork
        "done(call(56, 0, 0, 0, 0, 0))",  # clone
        "done(ctypes.CDLL(None).fork())",
        "done(call(101, 16, 1, 0, 0))",  # ptrace
    )


@pytest.mark.usefixtures("wall")
def test_signals_reach_nobody() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        pid = os.getpid()
        assert not escapes(
            "os.kill(os.getppid(), signal.SIGTERM)",
            f"os.kill({pid}, signal.SIGTERM)",
            "os.kill(-1, signal.SIGTERM)",
            "os.killpg(0, signal.SIGTERM)",
            f"done(call(62, {pid}, 15))",  # kill
            f"done(call(434, {pid}, 0))",  # pidfd_open
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not received


@pytest.mark.usefixtures("wall")
def test_no_network_not_even_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        assert not escapes(
            f"socket.create_connection(('127.0.0.1', {port}))",
            "socket.socket()",
            "socket.socketpair()",
            "__import__('_socket').socket(1, 1)",
            "done(call(41, 2, 1, 0))",  # socket
        )
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.usefixtures("wall")
def test_no_memory_outlives_a_program() -> None:
    def left() -> list[str]:
        names = [str(path) for path in Path("/dev/shm").iterdir()]
        return [*names, *Path("/proc/sysvipc/shm").read_text().splitlines()]

    before = left()
    assert not escapes(
        "__import__('_posixshmem').shm_open('/left', os.O_CREAT | os.O_RDWR, 0o600)",
        "__import__('multiprocessing.shared_memory').shared_memory.SharedMemory('left', True, 9)",
        "__import__('multiprocessing').Lock()",
        "done(ctypes.CDLL(None).shm_open(b'/left', 66, 0o600))",
        "done(call(29, 7, 1 << 20, 0o1666))",  # shmget
        "done(call(68, 7, 0o1666))",  # msgget
        "done(call(319, b'x', 0))",  # memfd_create
        "done(call(248, b'user', b'x', b'y', 1, -4))",  # add_key
        "done(call(425, 8, bytes(120)))",  # io_uring_setup
    )
    assert not set(left()) - set(before)


@pytest.mark.usefixtures("wall")
@pytest.mark.parametrize(
    "program",
    [
        "x = bytearray(1 << 32)",
        "x = []\nwhile True:\n    x.append('a' * 100_000)",
        "open('much', 'w').write('x' * (1 << 24))",
        "for i in range(2000):\n    open(str(i), 'w').write('x' * 1_000_000)",
        "for i in range(100_000):\n    open(str(i), 'w').close()",
        "import os\nfor i in range(5_000):\n    os.mkdir(str(i))",
        "import os\nos.truncate(os.open('a', os.O_CREAT | os.O_RDWR), 1 << 40)",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "import os\nkept = [os.pipe() for _ in range(1000)]",
        "def f(): f()\nf()",
        "input()",
        "while True: print('x' * 10_000)",
    ],
)
def test_what_is_too_much(program: str) -> None:
    assert not passes(program, seconds=1)


@pytest.mark.usefixtures("wall")
@pytest.mark.parametrize(
    "program",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\nassert False",
        "import sys\nsys.excepthook = lambda *_: None\nassert False",
        "import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'True')\n"
        "    except OSError:\n        pass\nos._exit(0)",
        "import os, sys\nl = sys._getframe(1).f_locals\n"
        "os.write(l['answer'], l['token'].encode())\nos._exit(0)",
        "import os\nos.closerange(0, 64)\nos._exit(0)",
    ],
)
def test_leaving_early_is_no_end(program: str) -> None:
    assert not passes(program)


ORDERED = """
def check(candidate):
    x = [3, 1, 2]
    try:
        assert candidate(x) == sorted(x)
    except ValueError:
        pass
"""
FORGED = [
    "import os; os._exit(0)",
    "raise SystemExit(0)",
    "raise KeyboardInterrupt",
    "class All:\n    def __eq__(self, other): return True\nreturn All()",
    "class All(int):\n    def __eq__(self, other): return True\nreturn All(4)",
    "class Bad:\n    def __reduce__(self): return exec, ('import os; os._exit(0)',)\nreturn Bad()",
    "class Bad:\n    def __reduce__(self): return 'os._exit'\nreturn Bad()",
    """
import sys
frame = sys._getframe()
while frame:
    frame.f_globals["check"] = frame.f_locals["check"] = lambda *_: None
    frame = frame.f_back
return 5""",
    """
import builtins
builtins.AssertionError = KeyboardInterrupt
builtins.sorted = builtins.len = builtins.abs = lambda *_: 0
return 5""",
    r"""
import gc
for each in gc.get_objects():
    if isinstance(each, dict) and "answers" in each:
        each["answers"].write(b"\x80\x04\x88." * 9)
return 5""",
    r"""
import os
for fd in range(64):
    try: os.write(fd, b"\x80\x04K\x00." * 99)
    except OSError: pass
os._exit(0)""",
    "x.clear(); return []",
]


@pytest.mark.usefixtures("wall")
@pytest.mark.parametrize("body", FORGED)
def test_a_pass_is_not_forged(body: str) -> None:
    """The tests run where the program is not; only the values it returns reach them."""
    problem = Problem("def ordered(x):\n", "ordered", ORDERED, "    return sorted(x)\n")
    assert not passes_tests(problem, "\n" + indent(body.strip(), "    "))


PLAIN = """
import collections, decimal, fractions
def check(candidate):
    for value in (
        None, True, 7, 10**40, 1.5, float('inf'), 2j, 'ä', b'x', [1, [2]], (1, (2,)), {'a': {1}},
        frozenset({1}), range(3), bytearray(b'x'), collections.Counter('aab'),
        collections.deque([1]), collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]),
        decimal.Decimal('1.5'), fractions.Fraction(1, 3), [],
    ):
        result = candidate(value, key=value)
        assert result == (value, value) and type(result[0]) is type(value), value
    try:
        candidate()
    except TypeError:
        return
    assert False
"""


@pytest.mark.usefixtures("wall")
def test_plain_data_and_errors_come_back_as_they_are() -> None:
    assert passes("def same(x, key): return x, key", "same", PLAIN)
    assert not passes("def same(x, key): return x, not key", "same", PLAIN)


@pytest.mark.usefixtures("wall")
def test_tests_may_use_what_the_prompt_defines() -> None:
    prompt = "def twice(x):\n    return x + x\n\n\ndef half(x):\n"
    test = "def check(candidate):\n    assert candidate(twice(3)) == 3 == half(6)\n"
    problem = Problem(prompt, "half", test, "    return x // 2\n")
    assert passes_tests(problem, "\n    return x // 2")
    assert passes_tests(problem, "\n    return x // 2\n\ndef twice(x):\n    return 0")
    assert not passes_tests(problem, "\n    return x")


@pytest.mark.usefixtures("wall")
def test_a_program_ends_with_its_parent() -> None:
    """Killed without a chance to clean up, the parent leaves no process."""
    code = (
        "from broadbase.evaluate.sandbox import passes\n"
        "passes('import time; time.sleep(60)', seconds=4321)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        while len(started("4321")) < 1 + 2 + 2:  # it, and for each half `unshare` and Python
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 10
    while started("4321") and time.monotonic() < ends:
        time.sleep(0.05)
    assert not started("4321")


def test_without_a_wall_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why, and what to install; only who says that the machine is a sandbox goes on."""
    monkeypatch.delenv(sandbox.OPT_OUT, raising=False)
    monkeypatch.setattr(sandbox, "PATH", str(tmp_path))
    require_wall.cache_clear()
    try:
        with pytest.raises(ResourceError, match=r"setpriv.*apt install util-linux"):
            passes(f"open({str(tmp_path / 'written')!r}, 'w')")
        assert not list(tmp_path.iterdir())
        monkeypatch.setenv(sandbox.OPT_OUT, "1")
        require_wall.cache_clear()
        assert passes("x = 1")
        assert not passes("import os\nos._exit(0)")
        assert not passes("x = bytearray(1 << 32)")
    finally:
        require_wall.cache_clear()


@pytest.mark.usefixtures("wall")
def test_what_runs_on_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that sleeps is gone when its time is over, and so is its folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = time.monotonic()
    assert not passes("import time\ntime.sleep(60)", seconds=0.5)
    assert time.monotonic() - begun < 30
    assert not started(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("wall")
def test_programs_at_once_do_not_meet() -> None:
    program = (
        "import time\nopen('a', 'w').write('{0}')\ntime.sleep(0.2)\n"
        "assert open('a').read() == '{0}'"
    )
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(passes, (program.format(i) for i in range(4))))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take a right from it")
def test_root_without_the_right_to_make_namespaces_runs_nothing(tmp_path: Path) -> None:
    program = f"open({str(tmp_path / 'written')!r}, 'w')"
    code = f"from broadbase.evaluate.sandbox import passes\npasses({program!r})"
    rights = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    env = {name: value for name, value in os.environ.items() if name != sandbox.OPT_OUT}
    done = subprocess.run(
        [*rights, sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert "ResourceError" in done.stderr
    assert "unshare" in done.stderr
    assert not list(tmp_path.iterdir())


def started(part: str) -> list[str]:
    """The processes with an argument that holds a text."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if part in (process / "cmdline").read_text(errors="replace"):
                names.append(process.name)
    return names
