"""The prepared data of a run: made, or opened again."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from broadbase.core.contracts import Codec
from broadbase.data.prepare import prepare
from broadbase.data.shards import Wanted
from broadbase.data.store import Store
from broadbase.data.workers import Progress, run_here, run_shown
from broadbase.run.config import RunConfig
from broadbase.weights import folder as model_folder
from broadbase.weights.start import agree


def data_folder(config: RunConfig, folder: Path) -> Path:
    """Where the prepared sources of a run lie."""
    return Path(config.data.store).expanduser() if config.data.store else folder / "data"


def prepare_data(
    config: RunConfig,
    folder: Path,
    console: Console | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Store], dict[str, Codec]]:
    """The stores `folder`/SOURCE of a config's data, made or brought up to date; and the codecs."""
    wanted = {
        name: Wanted(m.source, config.model.modalities[m.modality], m.modality, bool(m.pairs))
        for name, m in config.data.sources.items()
    }
    progress = progress or (run_here if console is None else run_shown(console))
    base = model_folder.base_at(config.start) if config.start else None
    stores, codecs = prepare(wanted, folder, config.data, progress, base.codecs if base else {})
    if base:
        agree(base, codecs, config.model, str(config.start))
    if console is not None:
        for name, store in stores.items():
            console.print(f"{name}: {store.summary()}", highlight=False, soft_wrap=True)
    return stores, codecs


def load_codecs(config: RunConfig, folder: Path) -> dict[str, Codec]:
    """The codecs that lie in the stores, by modality."""
    first = {m.modality: name for name, m in reversed(config.data.sources.items())}
    return {
        modality: config.model.modalities[modality].load(folder / source / "codec")
        for modality, source in first.items()
    }
