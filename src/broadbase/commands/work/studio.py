"""The work of `studio`: local pages on the runs of a folder."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from broadbase.commands.options import log
from broadbase.serve.app import create
from broadbase.serve.running import run
from broadbase.serve.served import Served
from broadbase.serve.settings import ServeConfig
from broadbase.studio.pages import mount_files, pages


def studio(folder: Path, bases: Sequence[str], *, port: int, device: str) -> None:
    """Serve the pages until SIGTERM or SIGINT."""
    settings = ServeConfig.from_tree({"port": port})
    token = secrets.token_urlsafe(24)
    served = Served.load(map(Path, bases), device)
    app = create(settings, [pages(folder, token, served)], token)
    mount_files(app)
    run(app, settings, log.say)
