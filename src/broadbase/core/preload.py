"""A long command starts with the allocator and the OpenMP runtime that training is fastest with.

glibc gives large arrays back to the system and takes them anew, page by page; jemalloc keeps them,
in huge pages. LLVM's OpenMP runtime wakes its threads sooner than GNU's. Both have to be there
before the process is: where they are installed, it starts again with them in LD_PRELOAD. Without
them, `train.machine` has the next best.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

LIBRARIES = {  # file names, the best first
    "allocator": ("libjemalloc.so.2",),
    "OpenMP": ("libomp.so.5", "libomp.so", "libiomp5.so"),
}
# jemalloc's MALLOC_CONF
KEEP = "dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,thp:always"
SETTING, BEFORE = "BROADBASE_PRELOAD", "BROADBASE_PRELOAD_BEFORE"
PRIMITIVES = 64  # that are kept where shapes are ever new
LONG = ("adapt", "demo", "index", "pretrain", "resume")  # commands that earn a second start
HELP = {"--help", "-h"}
FOLDERS = (Path(sys.prefix, "lib"), *map(Path, ("/usr/lib64", "/usr/lib", "/usr/local/lib")))

preloaded: list[str] = []  # libraries that this process was started again with


def relaunch(command: str = "", *options: str) -> None:
    """Start this process again with what is installed, if the command is long.

    Returns where there is nothing to gain: in the process that was started, for help.
    """
    if BEFORE in os.environ:
        preloaded[:] = _arrived(os.environ)
    elif command in LONG and HELP.isdisjoint(options) and (libraries := preloads()):
        given = os.environ.get("LD_PRELOAD", "")
        changed = {
            "LD_PRELOAD": ":".join([*filter(None, [given]), *libraries.values()]),
            "MALLOC_CONF": os.environ.get("MALLOC_CONF", KEEP),
            BEFORE: given,
        }
        sys.stdout.flush()
        command_line = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command_line, {**os.environ, **changed})


def bound_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let PyTorch keep few oneDNN primitives: it keeps one for each shape, 1,024 by default.

    A server meets ever new shapes, and its memory would grow for minutes. Before torch is used.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        environment.setdefault(name, str(PRIMITIVES))


def preloads(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the libraries to start with, by purpose: as BROADBASE_PRELOAD names them (paths
    with colons between; "off": none), else the libraries of this system."""
    wanted = environment.get(SETTING, "auto")
    if wanted != "auto":
        return {path: path for path in wanted.split(":") if os.path.isfile(path)}  # noqa: PTH113
    if not sys.platform.startswith("linux"):
        return {}
    paths = {use: _first(names) for use, names in LIBRARIES.items()}
    return {use: str(path) for use, path in paths.items() if path is not None}


def _first(names: tuple[str, ...]) -> Path | None:
    """Find the first of these libraries, maybe in the folder of an architecture."""
    paths = (
        path
        for name in names
        for folder in FOLDERS
        for path in (folder / name, *sorted(folder.glob(f"*-linux-gnu/{name}")))
    )
    return next((path for path in paths if path.is_file()), None)


def _arrived(environment: MutableMapping[str, str]) -> list[str]:
    """Return the preloaded libraries, and restore the environment for child processes."""
    loaded = environment.pop("LD_PRELOAD", "").split(":")
    before = environment.pop(BEFORE)
    if before:
        environment["LD_PRELOAD"] = before
    return [Path(path).name for path in loaded if path and path not in before.split(":")]
