"""What a recipe is, and where recipes are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.plugins import declared, outside
from broadbase.modalities.bpe import BytePairConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.run.config import RunConfig
from broadbase.weights.folder import base_at
from broadbase.weights.match import like
from broadbase.weights.warm_start import whole


@dataclass(frozen=True)
class Recipe:
    """A named way to make a run. `build(depth, data)`: one dial, and the user's data if any."""

    name: str
    summary: str
    build: Callable[[int, str | None], RunConfig]


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of this package and from outside (`broadbase.recipes`, or a RECIPE)."""
    found = declared("broadbase.recipes", "RECIPE") + outside("recipes", "RECIPE")
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


def alike(config: RunConfig, kind: str) -> RunConfig:
    """The same training of a model that leaves as one of a published family (a model_type)."""
    length = max(mixed.length for mixed in config.data.sources.values())
    model = like(config.model, kind, config.objective.pattern, length)
    return RunConfig.from_tree(config.model_copy(update={"model": model}).tree())


def onward(config: RunConfig, start: str) -> RunConfig:
    """The same training from a base on: its model, and beside it what only the recipe has.

    Text that would have a vocabulary of its own is told in that of published weights, in rows no
    longer than their positions; what they predict with, where they came without, begins anew.
    ConfigError where the recipe trains a tower that the base has not, on data that it has.
    """
    base, new = base_at(start), config.model
    known = whole(base)
    own = {name: name for name in new.modalities}
    for name, modality in base.config.modalities.items():
        if isinstance(modality, TokensConfig) and name in base.codecs:
            own |= {n: name for n, m in new.modalities.items() if isinstance(m, BytePairConfig)}
    first = next(iter(new.towers))
    added = [name for name in new.modalities if own[name] == name not in base.config.modalities]
    room = {*base.config.towers, *(new.at.get(name, first) for name in added)}
    if missing := [name for name in new.towers if name not in room]:
        raise ConfigError(
            f"start={start}: recipe {config.recipe!r} trains tower {', '.join(missing)}, and this"
            f" base has {', '.join(base.config.towers)} for {', '.join(base.codecs)}; take a recipe"
            f" of its towers, or a base with {', '.join(new.towers)}"
        )
    pairs = {(c.source, c.target) for c in base.config.connectors}
    beside = tuple(c for c in new.connectors if (c.source, c.target) not in pairs)
    model = ModelConfig(
        modalities={**known.modalities, **{name: new.modalities[name] for name in added}},
        towers={**base.config.towers, **new.towers, **base.config.towers},
        at={**{name: new.at.get(name, first) for name in added}, **base.config.at},
        connectors=(*base.config.connectors, *beside),
    )
    sources = {}
    for name, mixed in config.data.sources.items():
        length = int(min(mixed.length, model.places(own[mixed.modality])))
        changed = {"modality": own[mixed.modality], "length": length}
        sources[name] = mixed.model_copy(update=changed)
    data = config.data.model_copy(update={"sources": sources})
    started = config.model_copy(update={"model": model, "data": data, "start": start})
    return RunConfig.from_tree(started.tree())
