"""What a recipe is, and where recipes are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.plugins import declared, plugins
from broadbase.modalities.bpe import BytePairConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.run.config import RunConfig
from broadbase.weights.folder import base_at
from broadbase.weights.match import as_family
from broadbase.weights.warm_start import config_with_head


@dataclass(frozen=True)
class Recipe:
    """A named way to make a run. `build(depth, data)`: one dial, and the user's data if any."""

    name: str
    summary: str
    build: Callable[[int, str | None], RunConfig]


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of this package and from outside (`broadbase.recipes`, or a RECIPE)."""
    found = declared("broadbase.recipes", "RECIPE") + plugins("recipes", "RECIPE")
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; ConfigError with the nearest one."""
    known = all_recipes()
    if name not in known:
        raise ConfigError(f"there is no recipe {name!r}{hint(name, known)}")
    return known[name]


def example(recipe: Recipe, depth: int) -> RunConfig:
    """The config of a recipe on no data in particular."""
    try:
        return recipe.build(depth, None)
    except ConfigError:  # it needs some
        return recipe.build(depth, "PATH")


def as_family_of(config: RunConfig, kind: str) -> RunConfig:
    """The same training of a model that leaves as one of a published family (a model_type)."""
    length = max(mixed.sequence_length for mixed in config.data.sources.values())
    model = as_family(config.model, kind, config.objective.pattern, length)
    return RunConfig.from_tree(config.model_copy(update={"model": model}).tree())


def continue_from(config: RunConfig, start: str) -> RunConfig:
    """The same training from a base on: its model, and beside it what only the recipe has.

    Text that would have a vocabulary of its own is told in that of published weights, in rows no
    longer than their positions; what they predict with, where they came without, begins anew.
    ConfigError where the recipe trains a tower that the base has not, on data that it has.
    """
    base, new = base_at(start), config.model
    known = config_with_head(base)
    own = {name: name for name in new.modalities}
    for name, modality in base.config.modalities.items():
        if isinstance(modality, TokensConfig) and name in base.codecs:
            own |= {n: name for n, m in new.modalities.items() if isinstance(m, BytePairConfig)}
    first = next(iter(new.towers))
    added = [name for name in new.modalities if own[name] == name not in base.config.modalities]
    room = {*base.config.towers, *(new.tower_of.get(name, first) for name in added)}
    if missing := [name for name in new.towers if name not in room]:
        raise ConfigError(
            f"init_from={start}: recipe {config.recipe!r} trains tower {', '.join(missing)}, and"
            f" this base has {', '.join(base.config.towers)} for {', '.join(base.codecs)}; take"
            f" a recipe of its towers, or a base with {', '.join(new.towers)}"
        )
    pairs = {(c.source, c.target) for c in base.config.connectors}
    beside = tuple(c for c in new.connectors if (c.source, c.target) not in pairs)
    model = ModelConfig(
        modalities={**known.modalities, **{name: new.modalities[name] for name in added}},
        towers={**base.config.towers, **new.towers, **base.config.towers},
        tower_of={
            **{name: new.tower_of.get(name, first) for name in added},
            **base.config.tower_of,
        },
        connectors=(*base.config.connectors, *beside),
    )
    sources = {}
    for name, mixed in config.data.sources.items():
        length = int(min(mixed.sequence_length, model.max_length(own[mixed.modality])))
        changed = {"modality": own[mixed.modality], "sequence_length": length}
        sources[name] = mixed.model_copy(update=changed)
    data = config.data.model_copy(update={"sources": sources})
    started = config.model_copy(update={"model": model, "data": data, "init_from": start})
    return RunConfig.from_tree(started.tree())
