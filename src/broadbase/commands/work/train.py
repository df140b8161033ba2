"""The work of `pretrain` and `resume`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from broadbase.commands.options import fresh, log, show
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.data.detect import STORE
from broadbase.recipes.changes import Changes
from broadbase.recipes.printed import documented
from broadbase.recipes.resolve import overridden, resolve
from broadbase.run.prepare import beginning, first_rank
from broadbase.run.run import Run


def pretrain(
    recipe: str,
    data: Sequence[str] | None,
    depth: int | None,
    store: Path | None,
    out: Path | None,
    print_config: bool,
    as_json: bool,
    studio: bool = False,
    **changes: Unpack[Changes],
) -> None:
    """Train a recipe with changes in the folder `out`, or in a new one of `runs`; print its losses.

    With `print_config` print the config, and train nothing. With `studio` start its pages first, as
    a process of its own: neither ends the other.
    """
    if data is None and store is not None and any(store.glob("*/manifest.json")):
        data = [f"{STORE}{store}"]
    config = resolve(recipe, data, depth, **changes)
    if print_config:
        echo(documented(config), end="")
        return
    if out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("several ranks must agree on the run's folder: add --out")
    folder = out or fresh(Path("runs"), config.recipe)
    if studio and first_rank():
        _start_studio(folder.absolute().parent)
    with beginning(folder):
        _train(Run.create(config, folder, log), as_json)


def resume(folder: Path, settings: Sequence[str], as_json: bool) -> None:
    """Continue the run in `folder` under changed settings, and print its losses."""
    change = partial(overridden, settings=settings)
    _train(Run.open(folder, change=change, compare=True), as_json)


def _train(run: Run, as_json: bool) -> None:
    result = run.train(log)
    if os.environ.get("RANK", "0") != "0":
        return
    log.say(f"model in {run.folder / 'model'}")
    rows = [{"source": k, **v} for k, v in result.items()]
    title = f"held-out data, at most {run.config.data.final_rows:,} rows of each source"
    show(rows, ["source", "unit", "nats_per_token", "bits_per_unit"], as_json, title)


def _start_studio(root: Path) -> None:
    """Start the studio on the runs in `root` at a free port, and say where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "broadbase", "studio", str(root), "--port", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    log.say(
        f"studio at http://127.0.0.1:{port}/runs/latest in a few seconds; it stays when training"
        f" ends, until `kill {process.pid}`"
    )
