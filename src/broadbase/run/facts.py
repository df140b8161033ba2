"""What an objective may know of a run's data when it says how the base is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from broadbase.core.codec import Codec
from broadbase.core.usage import DataFacts
from broadbase.data.store.store import Store
from broadbase.modalities.noise import corruptions
from broadbase.run.config import RunConfig


def data_facts(
    config: RunConfig, stores: Mapping[str, Store], codecs: Mapping[str, Codec]
) -> DataFacts:
    """Return the facts of prepared data."""
    modalities = {name: mixed.modality for name, mixed in config.data.sources.items()}
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for name, modality in modalities.items():
        shapes.setdefault(modality, set()).update(_shapes(stores[name]))
    grids = {name: next(iter(some)) for name, some in shapes.items() if len(some) == 1}
    corrupt = corruptions(config.model.modalities, codecs)
    return DataFacts(
        modalities,
        {name: grid for name, grid in grids.items() if len(grid) > 1},
        {name: corrupt[name].sentinels for name in shapes},
    )


def _shapes(store: Store) -> set[tuple[int, ...]]:
    """Return the grids of the training records: the first, and one that differs if any does."""
    grids = store.split("train").grids
    differing = (grids != grids[0]).any(axis=1)
    distinct = grids[[0, int(differing.argmax())]] if len(grids) else np.empty((0, 1), int)
    return {tuple(int(n) for n in grid) for grid in distinct}
