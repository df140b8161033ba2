"""The work of `serve`: folders are loaded, and clients are answered until a signal comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.commands.options import Weights, log
from broadbase.inference.base import Base
from broadbase.serve.app import create
from broadbase.serve.models import models
from broadbase.serve.running import run
from broadbase.serve.served import Served
from broadbase.serve.settings import ServeConfig


def serve(
    folders: Sequence[Path], settings: Mapping[str, Any], *, weights: Weights, device: str
) -> None:
    """Serve bases and adapted bases until SIGTERM or SIGINT."""
    config = ServeConfig.from_tree(settings)
    change = Base.eight_bit if weights is Weights.int8 else None
    served = Served.load(folders, device, change)
    run(create(config, [models(served)]), config, log.say)
