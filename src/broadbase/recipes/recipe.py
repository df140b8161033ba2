"""What a recipe is, and where recipes come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.plugins import declared, plugins
from broadbase.run.config import RunConfig


@dataclass(frozen=True)
class Recipe:
    """A named way to make a run. `build(depth, data)`: one dial, and the user's data if any."""

    name: str
    summary: str
    build: Callable[[int, str | None], RunConfig]


def all_recipes() -> dict[str, Recipe]:
    """Return every recipe of this package and from outside (`broadbase.recipes`, or a RECIPE)."""
    recipes = declared("broadbase.recipes", "RECIPE") + plugins("recipes", "RECIPE")
    return {recipe.name: recipe for recipe in recipes}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name; ConfigError names the nearest one."""
    recipes = all_recipes()
    if name not in recipes:
        raise ConfigError(f"there is no recipe {name!r}{hint(name, recipes)}")
    return recipes[name]


def example(recipe: Recipe, depth: int) -> RunConfig:
    """Build the config of a recipe on no data in particular."""
    try:
        return recipe.build(depth, None)
    except ConfigError:  # it needs some
        return recipe.build(depth, "PATH")
