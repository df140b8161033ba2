"""The trackers of this package; others come from outside, as any choice of a slot."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.train.tracker import Tracker, TrackerConfig

PURPOSE = "this tracker"


class TensorBoardConfig(TrackerConfig):
    """Event files in the run's folder, which `tensorboard --logdir` shows."""

    name: Literal["tensorboard"] = "tensorboard"

    def build(self, folder: Path) -> Tracker:
        """Return the writer of event files."""
        require_extra("tensorboard", "trackers", PURPOSE)
        module = require_extra("torch.utils.tensorboard", "trackers", PURPOSE)
        return _TensorBoard(module.SummaryWriter, folder / "tensorboard")


class _TensorBoard:
    def __init__(self, writer: Any, folder: Path) -> None:
        self._class, self._folder = writer, folder
        self._writer: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        self._writer = self._class(str(self._folder))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class TrackioConfig(TrackerConfig):
    """A local project of trackio, which `trackio show` shows."""

    name: Literal["trackio"] = "trackio"
    project: str = "broadbase"
    """The project that the run belongs to."""

    def build(self, folder: Path) -> Tracker:
        """Return a run of that project."""
        module = _package("trackio")
        return _Project(module, {"project": self.project, "name": folder.name})


class WandbConfig(TrackerConfig):
    """Weights & Biases, without the network: `wandb sync` sends what it wrote, if you want that."""

    name: Literal["wandb"] = "wandb"
    project: str = "broadbase"
    """The project that the run belongs to."""

    def build(self, folder: Path) -> Tracker:
        """Return a run of that project whose files are in the run's folder."""
        module = _package("wandb")
        where = {"name": folder.name, "dir": str(folder), "mode": "offline"}
        return _Project(module, {"project": self.project, **where})


class _Project:
    """A tracker with wandb's interface, which trackio has too: init, log, finish."""

    def __init__(self, module: Any, settings: Mapping[str, str]) -> None:
        self._module, self._settings = module, settings
        self._run: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        self._run = self._module.init(**self._settings, config=dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()


def _package(name: str) -> Any:
    """Import a package that no extra brings, as it is large; ConfigError names it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"train.tracker: {name} is not installed; pip install {name}, or leave the tracker out"
        ) from None
