"""One run from several: data of several folders, or of several kinds, in one mixture."""

from __future__ import annotations

from collections.abc import Sequence

from broadbase.core.errors import ConfigError
from broadbase.model.model import ModelConfig
from broadbase.run.config import MixedSource, RunConfig


def mixture(configs: Sequence[RunConfig]) -> RunConfig:
    """One training on the sources of all configs, each with an equal share of the rows of a step.

    The first config decides the rest. ConfigError where the objectives or the towers differ, or
    sources are pairs: their objective names them.
    """
    first = configs[0]
    sources: dict[str, MixedSource] = {}
    for config in configs:
        if (
            config.objective != first.objective
            or config.model.towers.keys() != first.model.towers.keys()
        ):
            raise ConfigError(
                f"recipes {first.recipe!r} and {config.recipe!r} cannot be one mixture: their"
                " objectives or towers differ"
            )
        for name, mixed in config.data.sources.items():
            if mixed.pair_group is not None:
                raise ConfigError(f"recipe {config.recipe!r} trains on pairs: give --data once")
            rows = max(1, round(mixed.batch_size / len(configs)))
            sources[_free(name, sources)] = mixed.model_copy(update={"batch_size": rows})
    modalities = {k: m for c in reversed(configs) for k, m in c.model.modalities.items()}
    model = ModelConfig(
        modalities=modalities,
        towers=first.model.towers,
        tower_of={k: tower for c in configs for k, tower in c.model.tower_of.items()},
        connectors=first.model.connectors,
    )
    data = first.data.model_copy(update={"sources": sources})
    return RunConfig.from_tree(first.model_copy(update={"model": model, "data": data}).tree())


def _free(name: str, taken: dict[str, MixedSource]) -> str:
    """The name, or NAME_2, NAME_3, ..., the first that is free."""
    names = (f"{name}_{i}" if i > 1 else name for i in range(1, len(taken) + 2))
    return next(each for each in names if each not in taken)
