"""The work of `studio`: local pages on the runs of a folder."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from broadbase.commands.options import log
from broadbase.core.errors import ConfigError
from broadbase.serve.running import run
from broadbase.serve.served import served_name
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker
from broadbase.studio.app import studio_app
from broadbase.studio.bases import Bases
from broadbase.weights.samples import sample_name


def studio(folder: Path, given: Sequence[str], *, port: int, device: str) -> None:
    """Serve the pages until SIGTERM or SIGINT."""
    settings = ServeConfig.from_tree({"port": port})
    worker = Worker(settings.queue)
    bases = Bases(folder, named(given), worker, device)
    for name in bases.given:
        bases.describe(name)  # a folder that is none is refused before anything listens
    run(studio_app(folder, bases, settings, secrets.token_urlsafe(24)), settings, log.say)
    worker.close()


def named(paths: Sequence[str]) -> dict[str, str]:
    """Return what `--base` names by the name that pages show; ConfigError where two are equal."""
    names = dict[str, str]()
    for path in paths:
        name = path if sample_name(path) else served_name(Path(path))
        if name in names:
            raise ConfigError(f"--base: two bases are called {name!r}; rename the folder of one")
        names[name] = path
    return names
