"""The work of `serve`: folders are loaded, and clients are answered until a signal comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.commands.options import Weights, log
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.serve.api import api
from broadbase.serve.app import create
from broadbase.serve.running import run
from broadbase.serve.served import Served
from broadbase.serve.service import Service
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker


def serve(
    folders: Sequence[Path],
    settings: Mapping[str, Any],
    *,
    runs: Path | None,
    records: Sequence[Path],
    weights: Weights,
    device: str,
    adapters: Sequence[str] = (),
) -> None:
    """Serve bases and adapted bases until SIGTERM or SIGINT."""
    config = ServeConfig.from_tree(settings)
    change = Base.eight_bit if weights is Weights.int8 else None
    served = Served.with_adapters(folders, _named(adapters), device, change)
    service = Service(served, Worker(config.queue, config.rows), config, say=log.say)
    app = create(config, api(service, runs, records), meters=service.meters, say=log.say)
    run(app, config, log.say)
    service.worker.close()


def _named(adapters: Sequence[str]) -> dict[str, Path]:
    """Return the folders of adapters by name; ConfigError names one that is no NAME=FOLDER."""
    folders = {}
    for each in adapters:
        name, equals, folder = each.partition("=")
        if not (name and equals and folder) or name in folders:
            raise ConfigError(f"--adapter {each!r}: write NAME=FOLDER, each name once")
        folders[name] = Path(folder).expanduser()
    return folders
